import { BlockllmError } from "../support/errors.ts";
import { reasonOf } from "../support/reason.ts";

export function asEngineError(error: unknown): BlockllmError {
  if (error instanceof BlockllmError) return error;
  return new BlockllmError("engine_failed", `The engine failed: ${reasonOf(error)}`, { cause: error });
}

/** Of a segment that could not be loaded. What would be a wrong path from a user is, here, a repository that lost blobs. */
export function loadFailed(error: unknown): BlockllmError {
  const known = asEngineError(error);
  if (known.status >= 500) return known;
  return new BlockllmError("blob_missing", "the model cannot be loaded: some of its blobs are not in the repository", {
    hint: "`blockllm check` says which; have the server read the repository again.",
    cause: error,
  });
}

/** undefined: no device was lost. */
export function lossIn(results: readonly unknown[]): BlockllmError | undefined {
  return results.find(
    (given): given is BlockllmError => given instanceof BlockllmError && given.code === "device_lost",
  );
}

/** Of a request that has no token yet. */
export function deadlineExceeded({ arrived, deadline }: { arrived: number; deadline: number }): BlockllmError {
  const allowed = Math.max(0, Math.round(deadline - arrived));
  return new BlockllmError("deadline_exceeded", `no token was ready within the ${allowed} ms that were left for it`, {
    hint: "Allow more time, or ask when the server is less busy.",
  });
}
