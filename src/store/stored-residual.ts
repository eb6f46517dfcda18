import type { Digest } from "../blocks/block.ts";
import { isDigest } from "../fingerprint/digest.ts";
import { ANNOTATIONS, type Descriptor, MEDIA_TYPES } from "./descriptor.ts";
import { distinct } from "./references.ts";

/** A tensor that is stored as its difference to another, which is stored whole. */
export interface StoredResidual {
  tensor: Digest;
  base: Digest;
  /** Of the tensor, and of its base. */
  bytes: number;
  /** The residual's own blob. */
  blob: Pick<Descriptor, "digest" | "size">;
}

/** By tensor. */
export type Residuals = ReadonlyMap<Digest, StoredResidual>;

/** The residuals that a manifest lists; what another tool wrote and does not say all of it is none. */
export function residualsAmong(layers: readonly Descriptor[]): StoredResidual[] {
  return layers.flatMap(({ mediaType, digest, size, annotations = {} }) => {
    const tensor = annotations[ANNOTATIONS.tensor] ?? "";
    const base = annotations[ANNOTATIONS.base] ?? "";
    const bytes = Number(annotations[ANNOTATIONS.tensorBytes]);
    if (mediaType !== MEDIA_TYPES.residual || !isDigest(tensor) || !isDigest(base) || !(bytes >= 0)) return [];
    return [{ tensor, base, bytes, blob: { digest, size } }];
  });
}

/**
 * Layers in which tensors that have a residual are listed as that, each with its base, whole: whoever copies the manifest
 * can rebuild. A tensor that is a base here stays whole, so no difference is based on a difference.
 */
export function layersWithResiduals(layers: Descriptor[], residuals: Residuals): Descriptor[] {
  const found = layers.flatMap(({ digest }) => residuals.get(digest) ?? []);
  const bases = new Set(found.map(({ base }) => base));
  const used = new Map(found.filter(({ tensor }) => !bases.has(tensor)).map((one) => [one.tensor, one]));
  return distinct([
    ...layers.map((layer) => {
      const residual = used.get(layer.digest);
      return residual === undefined ? layer : describeResidual(residual);
    }),
    ...Array.from(used.values(), ({ base, bytes }) => ({ mediaType: MEDIA_TYPES.tensor, digest: base, size: bytes })),
  ]);
}

function describeResidual({ tensor, base, bytes, blob }: StoredResidual): Descriptor {
  const annotations = {
    [ANNOTATIONS.tensor]: tensor,
    [ANNOTATIONS.tensorBytes]: String(bytes),
    [ANNOTATIONS.base]: base,
  };
  return { mediaType: MEDIA_TYPES.residual, digest: blob.digest, size: blob.size, annotations };
}
