import { expect, it } from "vitest";
import { printGranularity } from "../../../src/cli/output/granularity.ts";

const SERVING = { shared_bytes: 1, separate_bytes: 1, sessions: 1, cuts: [], per_model: [] };

it("names the layers by how fine they are taken", () => {
  const by = ["layer", "layer", "module", "tensor", "layer", "tensor"] as const;
  const granularity = by.map((each, layer) => ({ layer, by: each, saved_bytes: each === "layer" ? 0 : 1e6 }));
  const cut = { models: ["a", "b"], runs: [["gate", "up"], ["down"]], saved_bytes: 5e5, more_sessions: 2 };
  const cuts = [
    { ...cut, place: "mlp of layer 3" },
    { ...cut, place: "head" },
  ];
  expect(printGranularity({ granularity, serving: { ...SERVING, cuts } })).toEqual([
    "",
    "layers are shared whole: 0–1, 4, by module: 2 (1.00 MB less memory), by tensor: 3, 5 (2.00 MB less memory)",
    "the head by tensor (500 kB less memory)",
    "`serve` cuts 2 parts finer than they are stored: 4 more to run",
  ]);
});

it("says nothing where every layer is shared whole or not at all", () => {
  expect(printGranularity({ granularity: [{ layer: 0, by: "layer", saved_bytes: 0 }], serving: SERVING })).toEqual([]);
});
