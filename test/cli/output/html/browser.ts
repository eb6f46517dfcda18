import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";

const NAMES = ["chromium", "chromium-browser", "google-chrome"];

/** The name of a Chromium on the path; null: there is none. */
export function findBrowser(): string | null {
  return NAMES.find((name) => spawnSync(name, ["--version"], { stdio: "ignore" }).status === 0) ?? null;
}

interface Message {
  id?: number;
  method?: string;
  params?: Record<string, unknown>;
  result?: Record<string, unknown>;
  error?: { message: string };
}

/** A headless Chromium with one page, spoken to by the DevTools protocol over a pipe: no port, no package. */
export class Browser {
  readonly #process: ChildProcess;
  readonly #profile: string;
  readonly #answers = new Map<number, (message: Message) => void>();
  readonly #events: Message[] = [];
  #session = "";
  #sent = 0;

  private constructor(name: string) {
    this.#profile = mkdtempSync(join(tmpdir(), "blockllm-chromium-"));
    const options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"];
    this.#process = spawn(name, [...options, `--user-data-dir=${this.#profile}`, "about:blank"], {
      stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"],
    });
    let text = "";
    (this.#process.stdio[4] as Readable).setEncoding("utf8").on("data", (piece: string) => {
      const messages = (text + piece).split("\0");
      text = messages.pop()!;
      for (const message of messages) this.#take(JSON.parse(message) as Message);
    });
  }

  static async open(name: string): Promise<Browser> {
    const browser = new Browser(name);
    const { targetInfos } = (await browser.#send("Target.getTargets")) as {
      targetInfos: { type: string; targetId: string }[];
    };
    const { targetId } = targetInfos.find(({ type }) => type === "page")!;
    const { sessionId } = await browser.#send("Target.attachToTarget", { targetId, flatten: true });
    browser.#session = sessionId as string;
    for (const domain of ["Page", "Runtime", "Network", "Log"]) await browser.#send(`${domain}.enable`);
    return browser;
  }

  /** Loads a page in a window of that size, all of it. */
  async load(url: string, { width = 1280, height = 800, dark = false } = {}): Promise<void> {
    await this.#send("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: false });
    const features = [{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }];
    await this.#send("Emulation.setEmulatedMedia", { features });
    this.#events.length = 0;
    await this.#send("Page.navigate", { url });
    while (!this.#events.some(({ method }) => method === "Page.loadEventFired")) await this.evaluate("1");
  }

  /** What an expression in the page gives; a promise is waited for. */
  async evaluate<Value>(expression: string): Promise<Value> {
    const answer = await this.#send("Runtime.evaluate", { expression, returnByValue: true, awaitPromise: true });
    if (answer["exceptionDetails"]) throw new Error(`${expression}: ${JSON.stringify(answer["exceptionDetails"])}`);
    return (answer["result"] as { value: Value }).value;
  }

  async click(x: number, y: number): Promise<void> {
    for (const type of ["mousePressed", "mouseReleased"])
      await this.#send("Input.dispatchMouseEvent", { type, x, y, button: "left", clickCount: 1 });
  }

  async press(key: string): Promise<void> {
    for (const type of ["keyDown", "keyUp"]) await this.#send("Input.dispatchKeyEvent", { type, key, code: key });
  }

  /** Of the whole page, or of what the window shows. */
  async screenshot(whole = true): Promise<Buffer> {
    const { data } = await this.#send("Page.captureScreenshot", { captureBeyondViewport: whole });
    return Buffer.from(data as string, "base64");
  }

  /** What the page did since it was loaded that it should not: errors, refused styles or scripts, requests. */
  complaints(): string[] {
    return this.#events.flatMap(({ method, params }) => {
      if (method === "Runtime.exceptionThrown" || method === "Log.entryAdded") return [JSON.stringify(params)];
      const url = (params?.["request"] as { url: string } | undefined)?.url ?? "";
      return method === "Network.requestWillBeSent" && !url.startsWith("file:") ? [`requested ${url}`] : [];
    });
  }

  async close(): Promise<void> {
    const ended = new Promise((done) => this.#process.once("close", done));
    await this.#send("Browser.close");
    await ended;
    rmSync(this.#profile, { recursive: true, force: true });
  }

  async #send(method: string, params: object = {}): Promise<Record<string, unknown>> {
    const id = ++this.#sent;
    const session = this.#session === "" || method.startsWith("Browser.") ? {} : { sessionId: this.#session };
    const answered = new Promise<Message>((done) => this.#answers.set(id, done));
    (this.#process.stdio[3] as Writable).write(`${JSON.stringify({ id, method, params, ...session })}\0`);
    const { result, error } = await answered;
    if (error) throw new Error(`${method}: ${error.message}`);
    return result ?? {};
  }

  #take(message: Message): void {
    if (message.id === undefined) this.#events.push(message);
    else this.#answers.get(message.id)?.(message);
  }
}
