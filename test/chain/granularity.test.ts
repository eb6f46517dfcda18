import { expect, it } from "vitest";
import type { BlockKind, Digest } from "../../src/blocks/block.ts";
import { chooseGranularity } from "../../src/chain/granularity.ts";

/** A layer per pair of letters: attention, MLP. */
function model(...layers: string[]) {
  const block = (kind: BlockKind, layer: number, letter: string) => ({
    kind,
    layer,
    digest: `sha256:${kind} ${layer} ${letter}` as Digest,
    bytes: kind === "mlp" ? 30 : 10,
  });
  return {
    blocks: layers.flatMap((letters, layer) => [
      block("attention", layer, letters[0]!),
      block("mlp", layer, letters[1]!),
    ]),
  };
}

it("takes layers whole where models agree in all of them or in nothing", () => {
  const layers = chooseGranularity([model("aa", "aa"), model("aa", "bb")], []);
  expect(layers).toEqual([
    { layer: 0, by: "layer", saved_bytes: 0 },
    { layer: 1, by: "layer", saved_bytes: 0 },
  ]);
});

it("takes attention and MLP apart where only one of them differs", () => {
  const [first, second] = chooseGranularity([model("aa", "aa"), model("ba", "ab"), model("ab", "aa")], []);
  expect(first).toEqual({ layer: 0, by: "module", saved_bytes: 40 });
  expect(second).toEqual({ layer: 1, by: "module", saved_bytes: 10 });
});

it("goes by tensor where serving cuts a part", () => {
  const cut = { place: "mlp of layer 1", models: [], runs: [], saved_bytes: 20, more_sessions: 1 };
  const layers = chooseGranularity([model("aa", "aa"), model("aa", "ab")], [cut, { ...cut, place: "mlp of layer 12" }]);
  expect(layers).toEqual([
    { layer: 0, by: "layer", saved_bytes: 0 },
    { layer: 1, by: "tensor", saved_bytes: 30 },
  ]);
});
