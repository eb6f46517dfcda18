import type { BlockKind, Digest } from "../blocks/block.ts";
import type { Refinement } from "./refine-chains.ts";

/** How fine a layer has to be taken for sharing all that models have in common in it. */
export interface LayerGranularity {
  layer: number;
  /**
   * `layer`: models have all of it in common or nothing. `module`: attention and MLP go apart. `tensor`: serving cuts it
   * where single weights differ. Storage always shares by tensor.
   */
  by: "layer" | "module" | "tensor";
  /** Bytes of memory that this saves over taking the layer whole. */
  saved_bytes: number;
}

interface ModelBlocks {
  blocks: { kind: BlockKind; layer: number | null; digest: Digest; bytes: number }[];
}

/** For every layer, from where the models really differ. */
export function chooseGranularity(models: ModelBlocks[], refinements: Refinement[]): LayerGranularity[] {
  const layers = new Set(
    models.flatMap(({ blocks }) => blocks.flatMap(({ layer }) => (layer === null ? [] : [layer]))),
  );
  return [...layers]
    .toSorted((a, b) => a - b)
    .map((layer) => {
      const own = models.map(({ blocks }) => blocks.filter((block) => block.layer === layer));
      const whole = new Map(own.map((blocks) => [blocks.map(({ digest }) => digest).join(" "), bytesOf(blocks)]));
      const apart = new Map(own.flat().map(({ digest, bytes }) => [digest as string, bytes]));
      const byModule = total(whole) - total(apart);
      const byTensor = refinements
        .filter(({ place }) => new RegExp(` of layer ${layer}\\b`).test(place))
        .reduce((sum, { saved_bytes }) => sum + saved_bytes, 0);
      const by = byTensor > 0 ? "tensor" : byModule > 0 ? "module" : "layer";
      return { layer, by, saved_bytes: byModule + byTensor };
    });
}

function bytesOf(blocks: { bytes: number }[]): number {
  return blocks.reduce((sum, { bytes }) => sum + bytes, 0);
}

function total(bytes: Map<string, number>): number {
  return [...bytes.values()].reduce((sum, each) => sum + each, 0);
}
