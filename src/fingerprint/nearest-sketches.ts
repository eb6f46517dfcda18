import { SKETCH_BITS, SKETCH_WORDS } from "./sketch.ts";

export interface NearSketch {
  /** Place of the sketch among the packed ones. */
  place: number;
  /** Bits that differ: 0 to 256. */
  distance: number;
}

/** The cosine of two blocks' weights by the bits in which their sketches differ: unrelated ones differ in 128 ± 8. */
export function estimateCosine(distance: number): number {
  return Math.cos((Math.PI * distance) / SKETCH_BITS);
}

/**
 * The `count` sketches nearest to `query` among those packed one after another, nearest first, exactly: every one is
 * looked at, as far as settles it (bench/similarity.ts).
 */
export function nearestSketches(packed: Uint32Array, query: Uint32Array, count: number): NearSketch[] {
  const near: NearSketch[] = [];
  if (count < 1) return near;
  let limit = SKETCH_BITS + 1;
  // Signed words stay integers in the compiled loop; unsigned ones above 2^31 would become doubles.
  const words = new Int32Array(packed.buffer, packed.byteOffset, packed.length);
  const [q0, q1, q2, q3, q4, q5, q6, q7] = new Int32Array(query) as unknown as Eight;
  for (let at = 0; at < words.length; at += SKETCH_WORDS) {
    let distance =
      differing(words[at]! ^ q0, words[at + 1]! ^ q1) + differing(words[at + 2]! ^ q2, words[at + 3]! ^ q3);
    if (distance >= limit) continue;
    distance += differing(words[at + 4]! ^ q4, words[at + 5]! ^ q5);
    if (distance >= limit) continue;
    distance += differing(words[at + 6]! ^ q6, words[at + 7]! ^ q7);
    if (distance >= limit) continue;
    insert(near, { place: at / SKETCH_WORDS, distance });
    if (near.length > count) near.pop();
    if (near.length === count) limit = near[count - 1]!.distance;
  }
  return near;
}

type Eight = [number, number, number, number, number, number, number, number];

function insert(near: NearSketch[], found: NearSketch): void {
  let position = near.length;
  while (position > 0 && near[position - 1]!.distance > found.distance) position--;
  near.splice(position, 0, found);
}

/** Bits set in two words. `| 0` keeps every sum an int32, which the compiler cannot know. */
function differing(a: number, b: number): number {
  const nibbles = (nibbleCounts(a) + nibbleCounts(b)) | 0;
  const bytes = ((nibbles & 0x0f0f0f0f) + ((nibbles >>> 4) & 0x0f0f0f0f)) | 0;
  return Math.imul(bytes, 0x01010101) >>> 24;
}

/** Up to 4 in each nibble, so two words' counts add up within it. */
function nibbleCounts(word: number): number {
  const pairs = (word - ((word >>> 1) & 0x55555555)) | 0;
  return ((pairs & 0x33333333) + ((pairs >>> 2) & 0x33333333)) | 0;
}
