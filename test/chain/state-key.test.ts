import { expect, test } from "vitest";
import { resolveChain } from "../../src/chain/resolve-chain.ts";
import { stateKey } from "../../src/chain/state-key.ts";
import { temporaryRepository } from "../engine/temporary-repository.ts";

test("only what decides keys and values decides what is shared between models", async () => {
  const source = await temporaryRepository([
    { name: "base", layers: [10, 11] },
    { name: "same", layers: [10, 11] },
    { name: "replaced", layers: [10, 12] },
    { name: "windowed", layers: [10, 11], shape: { core: { window: 9 } } },
  ]);
  const keys = [];
  for (const name of ["base", "same", "replaced", "windowed"]) {
    const chain = await resolveChain(source.repository, name);
    if (chain.kind === "blocks") keys.push(stateKey(chain));
  }
  expect(keys[1]).toBe(keys[0]);
  expect(new Set(keys).size).toBe(3);
  await source.remove();
});
