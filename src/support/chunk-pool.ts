/**
 * Buffers for bytes that pass through: read, hashed, written, gone. Fresh ones make V8 collect garbage every 20 MB or
 * so, since their memory counts as pressure: a third of the processor time of taking a 540 MB model in.
 */
const SMALLEST = 2 ** 16;
const LARGEST = 2 ** 24;
const KEPT_BYTES = 2 ** 26;

const free = new Map<number, ArrayBuffer[]>();
const lent = new WeakSet<ArrayBuffer>();
let keptBytes = 0;

/**
 * `bytes` bytes of unknown content, alone in their ArrayBuffer, which may be longer. Whoever has them last may give
 * them back with `recycleChunk`; to keep them is no mistake.
 */
export function takeChunk(bytes: number): Uint8Array {
  const capacity = Math.max(SMALLEST, 2 ** Math.ceil(Math.log2(bytes)));
  if (capacity > LARGEST) return new Uint8Array(newBuffer(bytes));
  const reused = free.get(capacity)?.pop();
  if (reused) keptBytes -= capacity;
  const buffer = reused ?? newBuffer(capacity);
  lent.add(buffer);
  return new Uint8Array(buffer, 0, bytes);
}

/** For the one who is sure to be the last with the chunk. One that was not taken here, or given back before, is let be. */
export function recycleChunk({ buffer }: Uint8Array): void {
  if (!(buffer instanceof ArrayBuffer) || !lent.delete(buffer) || keptBytes + buffer.byteLength > KEPT_BYTES) return;
  keptBytes += buffer.byteLength;
  const alike = free.get(buffer.byteLength);
  if (alike) alike.push(buffer);
  else free.set(buffer.byteLength, [buffer]);
}

/** Not zeroed, unlike `new ArrayBuffer`. */
function newBuffer(bytes: number): ArrayBuffer {
  return Buffer.allocUnsafeSlow(bytes).buffer;
}
