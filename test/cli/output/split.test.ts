import { expect, it } from "vitest";

import { printSplit, type SplitModel } from "../../../src/cli/output/split.ts";

const LLAMA: Partial<SplitModel> = {
  family: "llama",
  precision: "int4",
  exporter: "onnxruntime-genai, opset 21",
  recognised: ["3 attention cores", "rotary embedding"],
};

it("says what was recognised once for all models alike", () => {
  const text = printSplit({ refused: [], models: [model("base", LLAMA), model("legal", LLAMA), model("other", {})] });
  expect(text.slice(text.indexOf("base, legal")).split("\n")).toEqual([
    "base, legal",
    "  llama, int4, written by onnxruntime-genai, opset 21",
    "  3 attention cores",
    "  rotary embedding",
    "",
    "other",
    "  family not named, fp32, written by a program, opset 18",
    "",
    "3 models cut into blocks",
  ]);
});

it("does not fill the screen with names", () => {
  const models = Array.from({ length: 30 }, (_, i) => model(`bot-${i}`, LLAMA));
  expect(printSplit({ models, refused: [] })).toContain("bot-7 and 22 more\n  llama");
});

it("says which of several models were refused, and why", () => {
  const refused = [{ path: "./bad", code: "model_invalid" as const, message: "bad/model.onnx is empty", hint: null }];
  expect(printSplit({ models: [model("base", LLAMA)], refused })).toContain(
    "./bad\n  refused: bad/model.onnx is empty\n\n1 model cut into blocks",
  );
  expect(printSplit({ models: [], refused })).toBe("./bad\n  refused: bad/model.onnx is empty");
});

it("counts models kept whole, each with the node and the reason", () => {
  const text = printSplit({
    refused: [],
    models: [
      model("base", LLAMA),
      model("strange", {
        opaque: true,
        precision: "as exported",
        warnings: ["no tokenizer.json", "kept whole, nothing inside is shared: /scan: Scan of rows"],
      }),
    ],
  });
  expect(text).toContain("  warning: no tokenizer.json\n  warning: kept whole");
  expect(text).toMatch(/^strange +opaque /m);
  expect(text.split("\n").at(-1)).toBe("1 model cut into blocks, 1 kept whole: strange (/scan: Scan of rows)");
});

function model(name: string, given: Partial<SplitModel>): SplitModel {
  return {
    name,
    digest: `sha256:${"0".repeat(64)}`,
    blocks: [],
    bytes: 0,
    unique_bytes: 0,
    exporter: "a program, opset 18",
    family: "unknown",
    precision: "fp32",
    opaque: false,
    recognised: [],
    warnings: [],
    milliseconds: 1,
    ...given,
  };
}
