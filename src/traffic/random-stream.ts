import { randomBits } from "../fingerprint/seeded-random.ts";

/** Random numbers that depend on the seed and on how many were drawn before: the same on every machine. */
export class RandomStream {
  readonly #seed: number;
  #place = 0;

  /** `stream` tells the streams of one seed apart. */
  constructor(seed: number, stream: number) {
    this.#seed = randomBits(seed, stream);
  }

  /** Evenly in [0, 1). */
  uniform(): number {
    return randomBits(this.#seed, this.#place++) / 2 ** 32;
  }

  /** A whole number from `least` to `most`, both included. */
  whole(least: number, most: number): number {
    return least + Math.floor(this.uniform() * (most - least + 1));
  }

  /** Mean 1. */
  exponential(): number {
    return -Math.log(1 - this.uniform());
  }

  /** Mean 0, variance 1 (Box and Muller). */
  normal(): number {
    return Math.sqrt(2 * this.exponential()) * Math.cos(2 * Math.PI * this.uniform());
  }
}
