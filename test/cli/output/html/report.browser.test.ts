import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import type { Dedupe } from "../../../../src/cli/commands/dedupe.ts";
import { renderReport } from "../../../../src/cli/output/html/report.ts";
import { Browser, findBrowser } from "./browser.ts";
import { dedupeValue, lowRankPair } from "./dedupe-value.ts";

const name = findBrowser();
if (name === null) console.warn("the report is not tried in a browser: there is no chromium on the path");

describe.skipIf(name === null)("the report in a browser", () => {
  let browser: Browser;
  let folder = "";

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "blockllm-report-"));
    browser = await Browser.open(name!);
  });
  afterAll(async () => {
    await browser.close();
    rmSync(folder, { recursive: true, force: true });
  });

  async function open(value: Dedupe, view?: Parameters<Browser["load"]>[1]): Promise<void> {
    const path = join(folder, "report.html");
    writeFileSync(path, renderReport(value, { madeAt: new Date(0) }));
    await browser.load(pathToFileURL(path).href, view);
  }

  const textOf = (id: string) => browser.evaluate<string>(`document.getElementById("${id}").innerText`);

  it.each([
    ["wide and light", { width: 1280 }],
    ["narrow and dark", { width: 400, dark: true }],
  ])("stands by itself, %s: no request, no refusal, nothing cut off", async (_, view) => {
    await open(desk(), view);
    expect(browser.complaints()).toEqual([]);
    expect(await browser.evaluate("document.documentElement.scrollWidth <= innerWidth")).toBe(true);
    const ground = await browser.evaluate("getComputedStyle(document.body).backgroundColor");
    expect(ground === "rgb(255, 255, 255)").toBe(view.width === 1280);
  });

  it("shows a block when it is clicked", async () => {
    await open(desk());
    const [x, y] = await browser.evaluate<[number, number]>(`(() => {
      const frame = document.querySelector("#map-grid svg").getBoundingClientRect();
      const { layout } = data;
      scrollTo(0, frame.top - 100);
      const now = document.querySelector("#map-grid svg").getBoundingClientRect();
      return [now.left + layout.x[1] + 5, now.top + layout.top + 2 * layout.rowHeight + 5];
    })()`);
    await browser.click(x, y);
    const text = await textOf("block-details");
    expect(text).toMatch(/^legal: attention of layer 0/);
    expect(text).toContain("its own; could be low-rank factors over a shared block");
    expect(text).toMatch(/rank\s+8/);
    expect(text).toContain("64 × 64");
  });

  it("is walked through by keys", async () => {
    await open(desk());
    await browser.evaluate(`document.getElementById("map-grid").focus()`);
    await browser.press("Enter");
    expect(await textOf("block-details")).toMatch(/^base: embedding/);
    await browser.press("Escape");
    expect(await textOf("block-details")).toBe("");
    await browser.press("Enter");
    for (const key of ["ArrowDown", "ArrowDown", "ArrowRight", "ArrowRight"]) await browser.press(key);
    expect(await textOf("block-details")).toMatch(/^legal: MLP of layer 0/);
    await browser.evaluate(`document.getElementById("matrix-grid").focus()`);
    for (const key of ["Enter", "ArrowRight"]) await browser.press(key);
    expect(await textOf("couple-details")).toMatch(/base and legal[^]*3\.00 MB are the same[^]*attention of layer 0/);
  });

  it("counts models for another size of memory", async () => {
    await open(desk());
    await browser.evaluate(`(() => {
      const size = document.getElementById("fit-size");
      size.value = "60";
      size.dispatchEvent(new Event("input"));
    })()`);
    expect(await textOf("fit-answer")).toBe("19 with shared blocks, 10 apart");
  });

  it("shows hostile names as text", async () => {
    const hostile = "</script><img src=x onerror=document.title='taken'>";
    const value = dedupeValue({ [hostile]: "ABCD", base: "AbcD" });
    value.pairs.push(lowRankPair(hostile, "base", 0));
    await open(value);
    await browser.evaluate(`document.getElementById("map-grid").focus()`);
    for (const key of ["Enter", "ArrowRight", "ArrowDown"]) await browser.press(key);
    expect(await textOf("block-details")).toContain(hostile);
    expect(await browser.evaluate("document.title")).toBe("What 2 models share");
    expect(await browser.evaluate("document.images.length")).toBe(0);
    expect(browser.complaints()).toEqual([]);
  });

  it("stays usable with 200 models of 48 layers", async () => {
    const letters = "ABCDEFGH";
    const models = Object.fromEntries(
      Array.from({ length: 200 }, (_, model) => [
        `team-${model % 7}/assistant-number-${model}`,
        Array.from({ length: 98 }, (__, place) =>
          place > 80 ? String.fromCharCode(0x4e00 + model) : letters[model % 8]!,
        ).join(""),
      ]),
    );
    await open(dedupeValue(models));
    expect(browser.complaints()).toEqual([]);
    expect(await browser.evaluate("document.querySelectorAll('*').length")).toBeLessThan(8000);
    await browser.evaluate(`document.getElementById("map-grid").focus()`);
    for (const key of ["Enter", "ArrowDown"]) await browser.press(key);
    expect(await textOf("block-details")).toMatch(/^team-1\/assistant-number-8: embedding/);
    const seen = await browser.evaluate(
      `document.getElementById("block-details").getBoundingClientRect().bottom <= innerHeight`,
    );
    expect(seen).toBe(true);
  });
});

function desk(): Dedupe {
  const value = dedupeValue({ base: "ABCDEF", copy: "ABCDEF", legal: "AbcDeF", alone: "123456" });
  value.pairs.push(lowRankPair("base", "legal", 0));
  return value;
}
