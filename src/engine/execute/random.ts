/** Seeded numbers in [0, 1) with 53 bits: sfc32 (PractRand's small fast counter), its state spread from the seed. */
export class SeededRandom {
  readonly #state: Uint32Array;

  constructor(seed: number) {
    const low = seed >>> 0;
    const high = Math.floor(Math.abs(seed) / 2 ** 32) >>> 0;
    this.#state = Uint32Array.of(low, high, 0x9e3779b9, 1);
    for (let round = 0; round < 12; round++) this.#next32();
  }

  next(): number {
    const high = this.#next32() >>> 5;
    const low = this.#next32() >>> 6;
    return (high * 2 ** 26 + low) / 2 ** 53;
  }

  #next32(): number {
    const state = this.#state;
    const [a, b, c, counter] = state as unknown as [number, number, number, number];
    const result = (a + b + counter) >>> 0;
    state[0] = b ^ (b >>> 9);
    state[1] = c + (c << 3);
    state[2] = ((c << 21) | (c >>> 11)) + result;
    state[3] = counter + 1;
    return result;
  }
}
