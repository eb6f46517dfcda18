import type { Digest } from "../blocks/block.ts";
import { digestDocument } from "../fingerprint/digest.ts";
import { BlockllmError } from "../support/errors.ts";
import type { ServedModel } from "./request.ts";

/** Model name → digest of its document. */
export type ModelDigests = Readonly<Record<string, Digest>>;

/** Error model_changed where a model is not the one that the caller has read under its name. */
export function requireDocuments(
  models: readonly Pick<ServedModel, "name" | "document">[],
  digests: ModelDigests,
): void {
  for (const { name, document } of models) {
    if (!(name in digests) || digests[name] === digestDocument(document)) continue;
    throw new BlockllmError("model_changed", `another process put another model under the name ${name} meanwhile`, {
      hint: "run it again",
    });
  }
}
