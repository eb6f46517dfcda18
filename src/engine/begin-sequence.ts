import type { Executor } from "./execute/executor.ts";
import type { SetAside } from "./memory/set-aside.ts";
import type { Admission } from "./schedule/schedule.ts";
import type { Sequence } from "./sequence.ts";

interface Memory {
  executor: Executor;
  aside: SetAside;
}

/**
 * With what is known of its keys and values. False: what was set aside of it cannot be read, it starts over. Errors: the
 * executor's.
 */
export function openSequence({ sequence, prefix, returns }: Admission, memory: Memory): boolean {
  const { id, model, maxLength } = sequence;
  memory.executor.open(id, { model: model.key, maxTokens: maxLength });
  if (returns && !memory.aside.restore(sequence)) {
    memory.executor.truncate(id, 0);
    sequence.cached = 0;
    return false;
  }
  for (const [at, pieces] of prefix.entries())
    writePieces(sequence, { start: at * model.prefillChunk, pieces }, memory);
  return true;
}

/** Keys and values of one chunk of its prompt, stretch by stretch. Errors: the executor's. */
export function writePieces(
  { id, model: { stretches, prefillChunk } }: Sequence,
  { start, pieces }: { start: number; pieces: readonly Float32Array[] },
  { executor }: Pick<Memory, "executor">,
): void {
  for (const [at, piece] of pieces.entries())
    executor.writeState(id, { from: start, to: start + prefillChunk, layers: stretches[at]!.layers }, piece);
}
