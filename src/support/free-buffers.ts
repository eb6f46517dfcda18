import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/**
 * Collects garbage now. Loading leaves hundreds of megabytes in buffers that nobody refers to, and V8, which counts its own
 * heap, sees no reason to hurry. Takes tens of milliseconds: only after loading.
 */
export function freeBuffers(): void {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  setFlagsFromString("--no-expose-gc");
  collect();
}
