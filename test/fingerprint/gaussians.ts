import { randomBits } from "../../src/fingerprint/seeded-random.ts";

/** Standard normal values (Box and Muller), the same for the same seed. */
export function gaussians(count: number, seed: number): Float32Array<ArrayBuffer> {
  const uniform = (place: number) => (randomBits(seed + 1e6, place) + 0.5) / 2 ** 32;
  return Float32Array.from(
    { length: count },
    (_, i) => Math.sqrt(-2 * Math.log(uniform(2 * i))) * Math.cos(2 * Math.PI * uniform(2 * i + 1)),
  );
}
