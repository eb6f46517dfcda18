import type { Digest } from "../blocks/block.ts";
import { BlockllmError } from "../support/errors.ts";
import { decodeResidual, readResidualHeader } from "./residual.ts";
import { blobCorrupt } from "./storage-error.ts";
import { findZstd, ZSTD_MISSING } from "./zstd.ts";

/**
 * The tensor that a residual stands for, verified. `read` gives blobs that lie whole in the store, verified, so that a
 * residual's base is never a residual. Errors: blob_missing, blob_corrupt, zstd_missing.
 */
export async function rebuildTensor(
  { tensor, residual }: { tensor: Digest; residual: Digest },
  read: (digest: Digest) => Promise<Uint8Array>,
): Promise<Uint8Array> {
  const zstd = findZstd();
  if (zstd === null) {
    throw new BlockllmError(
      "zstd_missing",
      `${tensor} is stored as a residual and cannot be rebuilt: ${ZSTD_MISSING}`,
      {
        hint: "`blockllm dedupe --undo --tiers residual` on a machine with zstd stores all tensors whole again",
      },
    );
  }
  const bytes = await read(residual);
  const header = readResidualHeader(bytes, residual);
  if (header.exact !== tensor) throw blobCorrupt(residual, `it gives ${header.exact} instead of ${tensor}`);
  return await decodeResidual({ base: await read(header.base), residual: bytes, header }, zstd);
}
