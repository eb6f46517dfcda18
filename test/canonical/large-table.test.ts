import { expect, test } from "vitest";

import { takeApart } from "../../src/blocks/take-apart.ts";
import { readModel } from "../../src/onnx/read-model.ts";
import { locateModel } from "../../src/store/source-folder.ts";

/** A weight of real size is only described, never read: the file named here does not exist. */
test("an embedding table of 8 million elements is cut like a small one", async () => {
  const source = locateModel("fixtures/desk/genai/base");
  const model = await readModel(source.graph);
  const small = takeApart(model, source.facts);
  const head = model.graph.initializers.get("lm_head.MatMul.weight")!;
  const vocabulary = 131_072;
  model.graph.initializers.set(head.name, {
    ...head,
    dims: [head.dims[0]!, vocabulary],
    data: { kind: "file", path: "no-such-file", offset: 0, length: 4 * head.dims[0]! * vocabulary },
  });

  const large = takeApart(model, source.facts);

  expect(large.kind).toBe("cut");
  expect(kinds(large)).toEqual(kinds(small));
});

function kinds(apart: ReturnType<typeof takeApart>): string[] {
  return apart.kind === "cut" ? apart.blocks.map(({ cut }) => cut.kind) : [];
}
