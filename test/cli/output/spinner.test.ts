import { PassThrough } from "node:stream";
import { expect, it } from "vitest";
import { createProgress, type ProgressOptions } from "../../../src/cli/output/spinner.ts";

function spoken(options: Partial<ProgressOptions>, columns?: number): string {
  const stream = Object.assign(new PassThrough(), { columns });
  const settings = { quiet: false, color: false, interactive: false, ...options };
  const progress = createProgress(settings, stream as unknown as NodeJS.WriteStream);
  progress.start("reading support");
  progress.update("reading support: 50 %");
  progress.succeed("support: 14 blocks");
  progress.note("a line");
  progress.fail();
  return String(stream.read() ?? "");
}

it("writes plain lines, without updates, where nobody watches", () => {
  expect(spoken({})).toBe("reading support\nsupport: 14 blocks\na line\n");
});

it("writes them in a terminal without columns, too, where a spinner would not end", () => {
  expect(spoken({ interactive: true }, 0)).toBe(spoken({}));
});

it("is silent with --quiet", () => {
  expect(spoken({ quiet: true, interactive: true })).toBe("");
});
