import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

import { orderPart } from "../../src/blocks/order-part.ts";
import { takeApart, type TakenApart } from "../../src/blocks/take-apart.ts";
import { readModel } from "../../src/onnx/read-model.ts";
import { locateModel } from "../../src/store/source-folder.ts";
import { FIXTURES, fixtureModels, KEPT_WHOLE } from "./split-fixtures.ts";

/** Takes its weights from an adapter file, which is bound before a model is taken apart. */
const WITH_ADAPTER = "exports/olive/llama-lora-inputs";
const EXPORTS = fixtureModels().filter(
  (path) => path.startsWith("exports/") && path !== WITH_ADAPTER && !KEPT_WHOLE.includes(path),
);
const MODELS = [...EXPORTS, "desk/genai/finance-lora"];

describe.each(MODELS)("%s", (path) => {
  it("lands every row node in exactly one block, and joins by one row", async () => {
    const { canonical, blocks } = await takeApartFixture(path);
    const { program, cores, logits } = canonical;
    const places = new Map<number, string[]>();
    blocks.forEach(({ cut }, place) => {
      for (const part of cut.parts)
        for (const { id } of orderPart(program, part))
          places.set(id, [...(places.get(id) ?? []), `${place} ${cut.kind}`]);
    });
    const twice = [...places].filter(([, found]) => found.length > 1);
    expect(twice.filter(([, found]) => new Set(found).size > 1)).toEqual([]);
    // Where attention and MLP are parallel they may share a norm: cheaper made again in the out part than passed on.
    expect(new Set(twice.map(([id]) => program.node(id).op))).toEqual(new Set(twice.length > 0 ? ["norm"] : []));

    const needed = reachable(logits, (id) => program.node(id).inputs);
    const computed = [...needed].filter((id) => !["ids", "core"].includes(program.node(id).op));
    expect([...places.keys()].toSorted((a, b) => a - b)).toEqual(computed.toSorted((a, b) => a - b));
    expect(blocks.flatMap(({ cut }) => (cut.core === null ? [] : [cut.core]))).toHaveLength(cores.length);

    // What one block gives is what the next takes: the residual row, and nothing else.
    const ends = blocks.map(({ cut }) => cut.parts.at(-1)!.outputs[0]!.node);
    blocks.slice(1).forEach(({ cut }, i) => {
      for (const part of cut.parts) {
        const hidden = [...part.inputs].find(([, port]) => port === "hidden")!;
        expect(hidden[0]).toBe(ends[i]);
      }
    });
    expect(ends.at(-1)).toBe(logits);
  });
});

it("parts have the ports that runners wire, and nothing of the file's names", async () => {
  const { blocks } = await takeApartFixture("exports/optimum/qwen3");
  const ports = blocks.map(({ cut, parts }) => [
    cut.kind,
    ...parts.map(
      ({ inputs, outputs }) => `${inputs.map(({ name }) => name).join()} → ${outputs.map(({ name }) => name).join()}`,
    ),
  ]);
  expect(ports.slice(0, 3)).toEqual([
    ["embedding", "ids → hidden_out"],
    ["attention", "hidden,cos,sin → q,k,v", "hidden,o → hidden_out"],
    ["mlp", "hidden → hidden_out"],
  ]);
  expect(ports.at(-1)).toEqual(["head", "hidden → logits"]);
  const text = readFileSync(join(FIXTURES, "exports/optimum/qwen3/model.onnx")).toString("latin1");
  for (const { parts } of blocks) {
    for (const { model } of parts) {
      for (const { name } of model.graph.nodes) if (name.length > 8) expect(text).not.toContain(name);
    }
  }
});

it("learned positions come in by the embedding", async () => {
  const { blocks } = await takeApartFixture("exports/optimum/gpt2");
  expect(blocks[0]!.parts[0]!.inputs.map(({ name }) => name)).toEqual(["ids", "positions"]);
  expect(blocks[1]!.parts[0]!.inputs.map(({ name }) => name)).toEqual(["hidden"]);
  expect(blocks[1]!.cut.rotary).toBeNull();
});

async function takeApartFixture(path: string): Promise<TakenApart & { kind: "cut" }> {
  const { graph, facts } = locateModel(join(FIXTURES, path));
  const apart = takeApart(await readModel(graph), facts);
  if (apart.kind !== "cut") throw new Error(apart.reason);
  return apart;
}

function reachable(from: number, inputsOf: (id: number) => number[]): Set<number> {
  const seen = new Set<number>();
  const stack = [from];
  while (stack.length > 0) {
    const id = stack.pop()!;
    if (seen.has(id)) continue;
    seen.add(id);
    stack.push(...inputsOf(id));
  }
  return seen;
}
