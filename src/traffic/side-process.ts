import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { scriptBeside } from "../support/script-beside.ts";
import { unpackError } from "../engine/engine-messages.ts";
import type { Load } from "./run-load.ts";
import type { FromSide, ToSide } from "./side-messages.ts";
import type { Side } from "./side.ts";
import type { TargetModel } from "./target.ts";

export type SideRun = FromSide & { type: "ran" };

/** A side in a process of its own, so that memory is its own and nothing of another side is left in it. */
export class SideProcess {
  readonly models: readonly TargetModel[];
  readonly loadSeconds: number;
  readonly #child: ChildProcess;
  readonly #signal: AbortSignal;

  private constructor(child: ChildProcess, signal: AbortSignal, opened: FromSide & { type: "opened" }) {
    this.#child = child;
    this.#signal = signal;
    this.models = opened.models;
    this.loadSeconds = opened.seconds;
  }

  /** Errors: what loading the side's models or connecting to it throws. */
  static async open(side: Side, signal: AbortSignal): Promise<SideProcess> {
    const child = startScript();
    try {
      const opened = await ask(child, { type: "open", side }, signal);
      return new SideProcess(child, signal, opened as FromSide & { type: "opened" });
    } catch (error) {
      await end(child);
      throw error;
    }
  }

  async run(load: Load, warmUp: Load | null): Promise<SideRun> {
    return (await ask(this.#child, { type: "run", load, warmUp }, this.#signal)) as SideRun;
  }

  async close(): Promise<void> {
    await end(this.#child);
  }
}

/** From TypeScript sources (tests, tsx) the process must first learn to load them. */
function startScript(): ChildProcess {
  const script = scriptBeside(import.meta.url, "side-script");
  const loader = script.href.endsWith(".ts") ? ["--import", import.meta.resolve("tsx")] : [];
  // Results on stdout are the command's alone.
  return fork(script, [], {
    execArgv: loader,
    stdio: ["ignore", "ignore", "inherit", "ipc"],
    serialization: "advanced",
  });
}

/** Sends a message and waits for its answer, the end of the process, or the abort. */
async function ask(child: ChildProcess, message: ToSide, signal: AbortSignal): Promise<FromSide> {
  signal.throwIfAborted();
  const answer = await new Promise<FromSide>((resolve, reject) => {
    const ended = (code: number | null): void =>
      over(() => reject(new Error(`the process of a side ended with ${code}`)));
    const answered = (said: unknown): void => over(() => resolve(said as FromSide));
    const aborted = (): void => over(() => reject(signal.reason as Error));
    const over = (settle: () => void): void => {
      child.off("message", answered).off("exit", ended);
      signal.removeEventListener("abort", aborted);
      settle();
    };
    child.on("message", answered).on("exit", ended);
    signal.addEventListener("abort", aborted);
    child.send(message);
  });
  if (answer.type !== "failed") return answer;
  throw answer.error ? unpackError(answer.error) : new Error("a side of the measurement failed; its stack is above");
}

const GRACE_MS = 10_000;

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  if (child.connected) child.disconnect();
  const timer = setTimeout(() => child.kill("SIGKILL"), GRACE_MS);
  await exited;
  clearTimeout(timer);
}
