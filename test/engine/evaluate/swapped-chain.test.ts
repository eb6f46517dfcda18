import { describe, expect, it } from "vitest";

import type { Digest } from "../../../src/blocks/block.ts";
import { chainKey, documentWithMerges, firstChange, swapBlocks } from "../../../src/engine/evaluate/swapped-chain.ts";
import type { ChainEntry, ModelDocument } from "../../../src/store/model-document.ts";

const digestOf = (name: string): Digest => `sha256:${name.padStart(64, "0")}`;
const [a, b, c] = ["a", "b", "c"].map(digestOf) as [Digest, Digest, Digest];
const entry = (digest: Digest, more: Partial<ChainEntry> = {}): ChainEntry => ({
  kind: "mlp",
  layer: 0,
  digest,
  bytes: 1,
  ...more,
});
const documentOf = (...chain: ChainEntry[]): ModelDocument => ({ chain }) as ModelDocument;
const record = { bytes: () => 2, evidence: () => ({ kl: 0.1 }), keepOriginals: true };

describe("swapBlocks", () => {
  it("puts other blocks in, but not where an adapter was made for the block", () => {
    const adapted = entry(a, { adapter: { digest: c, bytes: 3 } });
    const chain = [entry(a), adapted, entry(b)];
    const swapped = swapBlocks(chain, [{ block: a, by: c }]);
    expect(swapped.map(({ digest }) => digest)).toEqual([c, a, b]);
    expect(firstChange(chain, swapped)).toBe(0);
    expect(firstChange(chain, chain)).toBe(3);
    expect(chainKey(chain)).not.toBe(chainKey(swapped));
  });
});

describe("documentWithMerges", () => {
  it("writes what was replaced beside what runs, and leaves the rest alone", () => {
    const untouched = entry(b);
    const { chain } = documentWithMerges(documentOf(entry(a), untouched), [{ block: a, by: c }], record);
    expect(chain).toEqual([
      entry(c, { bytes: 2, replaces: { tier: "equivalent", digest: a, bytes: 1, kept: true, evidence: { kl: 0.1 } } }),
      untouched,
    ]);
    expect(chain[1]).toBe(untouched);
  });

  it("keeps the first original through several merges, and is as split again when it runs once more", () => {
    const once = documentWithMerges(documentOf(entry(a)), [{ block: a, by: b }], record);
    const twice = documentWithMerges(once, [{ block: b, by: c }], record);
    expect(twice.chain[0]).toMatchObject({ digest: c, replaces: { digest: a, bytes: 1, kept: true } });
    expect(documentWithMerges(twice, [{ block: c, by: a }], record).chain).toEqual([entry(a)]);
  });

  it("does not promise an original that was given up", () => {
    const given = documentWithMerges(documentOf(entry(a)), [{ block: a, by: b }], { ...record, keepOriginals: false });
    expect(given.chain[0]!.replaces!.kept).toBe(false);
    const again = documentWithMerges(given, [{ block: b, by: c }], record);
    expect(again.chain[0]!.replaces).toMatchObject({ digest: a, kept: false });
  });
});
