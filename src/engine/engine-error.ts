import { BlockllmError } from "../support/errors.ts";
import { reasonOf } from "../support/reason.ts";

export function asEngineError(error: unknown): BlockllmError {
  if (error instanceof BlockllmError) return error;
  return new BlockllmError("engine_failed", `The engine failed: ${reasonOf(error)}`, { cause: error });
}
