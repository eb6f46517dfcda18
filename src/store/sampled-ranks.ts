import type { Digest, TensorEntry } from "../blocks/block.ts";
import { isFloat, toFloats } from "../fingerprint/element-stream.ts";
import { differsByRounding, findLowRank } from "../fingerprint/low-rank.ts";
import type { Matrix, MatrixProducts } from "../fingerprint/matrix-products.ts";
import { functionOf } from "./block-graphs.ts";
import type { DistinctBlock } from "./distinct-blocks.ts";
import type { FileBlobStore } from "./file-blob-store.ts";
import { sampledDistance } from "./sample-weights.ts";
import { blockTensors } from "./sketch-blocks.ts";

/** A matrix of rank r has no larger rank in any corner; in one of this side a full rank shows early (`findLowRank`). */
const CORNER = 256;
const MOST_RANK = 80;
/** In how many blocks nearest to a block its base is looked for. */
const NEAREST_TRIED = 3;
/** Blocks that others are compared with, at most: the cost grows with the blocks, not with their couples. */
const MOST_ANCHORS = 32;
/** As for blocks as a whole: of what differs, so much is of low rank. */
const LEAST_FACTORED = 0.5;

/**
 * Which blocks of a group are others plus a matrix of low rank, by the corners of their weights: milliseconds a couple
 * where whole matrices take up to seconds. For choosing what is then measured as a whole.
 */
export class SampledRanks {
  readonly #blobs: FileBlobStore;
  readonly #products: MatrixProducts;
  readonly #corners = new Map<Digest, (Matrix | null)[]>();
  readonly #functions = new Map<Digest, string>();

  constructor(blobs: FileBlobStore, products: MatrixProducts) {
    this.#blobs = blobs;
    this.#products = products;
  }

  /**
   * Of blocks that could be the base of all of them, in their order, those that it takes the smallest factors from: a
   * LoRA's own rank from what it was made of, the sum of two from another LoRA. By the weight in which most of them differ.
   */
  async best(blocks: DistinctBlock[]): Promise<DistinctBlock[]> {
    const weights: (Matrix | null)[] = [];
    const at = mostDistinct(blocks);
    for (const block of blocks) weights.push((await this.#cornersOf(block))[at] ?? null);
    const sizes = blocks.map(() => 0);
    for (const [one, base] of weights.entries()) {
      for (const [other, tuned] of weights.entries()) {
        if (other <= one || base === null || tuned === null) continue;
        const isAlike = (await this.#functionOf(blocks[one]!)) === (await this.#functionOf(blocks[other]!));
        const size = (isAlike ? await this.#factorSize(base, tuned) : null) ?? tuned.values.length;
        sizes[one]! += size;
        sizes[other]! += size;
      }
    }
    const least = Math.min(...sizes);
    const best = blocks.filter((_, place) => sizes[place] === least);
    // What other models run with factors already is not exchanged for its like.
    const used = best.filter(({ isAdapted }) => isAdapted);
    return used.length > 0 ? used : best;
  }

  /**
   * The families among blocks that are no base plus a low rank: what was made by LoRA from a fine-tune, and that fine-tune.
   * Each block's parent is among those nearest to it, since what training adds lies across what others' added.
   */
  async families(base: DistinctBlock, blocks: DistinctBlock[]): Promise<DistinctBlock[][]> {
    const others: DistinctBlock[] = [];
    for (const block of blocks) if (!(await this.#isRelated(base, block))) others.push(block);
    const anchors = others.slice(0, MOST_ANCHORS);
    const family = new Map(others.map((block) => [block, [block]]));
    const tried = new Map(others.map((block) => [block, new Set([block])]));
    for (const block of others) {
      for (const anchor of await this.#nearest(block, anchors)) {
        const [own, found] = [family.get(block)!, family.get(anchor)!];
        if (own === found || tried.get(anchor)!.has(block)) continue;
        tried.get(block)!.add(anchor);
        if (!(await this.#isRelated(anchor, block))) continue;
        own.push(...found);
        for (const joined of found) family.set(joined, own);
      }
    }
    return [...new Set(family.values())].filter(({ length }) => length > 1);
  }

  /** Nothing is kept of a group once it is settled. */
  forget(): void {
    this.#corners.clear();
  }

  async #nearest(block: DistinctBlock, anchors: DistinctBlock[]): Promise<DistinctBlock[]> {
    const distances = new Map<DistinctBlock, number>();
    const own = valuesOf(await this.#cornersOf(block));
    for (const anchor of anchors) {
      if (anchor !== block) distances.set(anchor, sampledDistance(own, valuesOf(await this.#cornersOf(anchor))));
    }
    const nearest = [...distances.keys()].toSorted((a, b) => distances.get(a)! - distances.get(b)!);
    return nearest.slice(0, NEAREST_TRIED);
  }

  /** The largest first, until it is settled. */
  async #isRelated(base: DistinctBlock, block: DistinctBlock): Promise<boolean> {
    if ((await this.#functionOf(base)) !== (await this.#functionOf(block))) return false;
    const [bases, tuned] = [await this.#cornersOf(base), await this.#cornersOf(block)];
    const couples = tuned.flatMap((corner, at) => {
      const from = bases[at]!;
      return corner === null || from === null || isEqual(from, corner) ? [] : [{ from, corner }];
    });
    couples.sort((a, b) => b.corner.values.length - a.corner.values.length);
    const differing = couples.reduce((sum, { corner }) => sum + corner.values.length, 0);
    let [factored, whole] = [0, 0];
    for (const { from, corner } of couples) {
      if ((await this.#factorSize(from, corner)) === null) whole += corner.values.length;
      else factored += corner.values.length;
      if (factored >= LEAST_FACTORED * differing) return true;
      if (whole > (1 - LEAST_FACTORED) * differing) return false;
    }
    return false;
  }

  /** Elements of the factors; null: what differs has no low rank. */
  async #factorSize(base: Matrix, tuned: Matrix): Promise<number | null> {
    const pair = { base, tuned, dtype: "float32" } as const;
    if (differsByRounding(pair)) return 0;
    const found = await findLowRank(pair, this.#products, { mostRank: MOST_RANK });
    return found?.error.is_rounding === true ? found.left.values.length + found.right.values.length : null;
  }

  async #functionOf({ digest, document }: DistinctBlock): Promise<string> {
    const known = this.#functions.get(digest) ?? (await functionOf(this.#blobs, document));
    this.#functions.set(digest, known);
    return known;
  }

  async #cornersOf({ digest, document }: DistinctBlock): Promise<(Matrix | null)[]> {
    const known = this.#corners.get(digest);
    if (known) return known;
    const corners: (Matrix | null)[] = [];
    for (const tensor of blockTensors(document)) corners.push(await this.#cornerOf(tensor));
    this.#corners.set(digest, corners);
    return corners;
  }

  /** Not verified, since the rest is not read. */
  async #cornerOf(tensor: TensorEntry): Promise<Matrix | null> {
    if (!isMatrix(tensor)) return null;
    const [rows = 0, width = 0] = tensor.dims;
    const wanted = Math.min(rows, CORNER) * (tensor.bytes / rows);
    const chunks: Uint8Array[] = [];
    let read = 0;
    for await (const chunk of this.#blobs.stream(tensor.digest)) {
      chunks.push(chunk);
      read += chunk.length;
      if (read >= wanted) break;
    }
    const strip = toFloats(new Uint8Array(Buffer.concat(chunks).subarray(0, wanted)), tensor.dtype);
    const columns = Math.min(width, CORNER);
    const values = new Float32Array((strip.length / width) * columns);
    for (let row = 0; row * width < strip.length; row++)
      values.set(strip.subarray(row * width, row * width + columns), row * columns);
    return { rows: strip.length / width, columns, values };
  }
}

/** The place of the matrix of which the blocks have the most different ones; of those the largest. */
function mostDistinct(blocks: DistinctBlock[]): number {
  const all = blocks.map(({ document }) => blockTensors(document));
  const places = [...(all[0] ?? []).keys()].filter((at) => isMatrix(all[0]![at]!));
  const distinct = (at: number): number => new Set(all.map((tensors) => tensors[at]!.digest)).size;
  places.sort((a, b) => distinct(b) - distinct(a) || all[0]![b]!.bytes - all[0]![a]!.bytes);
  return places[0] ?? -1;
}

function isMatrix({ dtype, dims: [rows = 0, width = 0, ...more] }: TensorEntry): boolean {
  return isFloat(dtype) && more.length === 0 && rows * width > 0;
}

function valuesOf(corners: (Matrix | null)[]): Float32Array[] {
  return corners.flatMap((corner) => corner?.values ?? []);
}

function isEqual(a: Matrix, b: Matrix): boolean {
  return a.values.every((value, at) => value === b.values[at]);
}
