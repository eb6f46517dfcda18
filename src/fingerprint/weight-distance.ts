/** How far two tensors of equal shape are from each other, from any number of chunks. Elements without a value are left out. */
export class WeightDistance {
  #dot = 0;
  #squaresA = 0;
  #squaresB = 0;
  #squaresDelta = 0;
  #mostDelta = 0;

  add(a: Float32Array, b: Float32Array): void {
    for (let i = 0; i < a.length; i++) {
      const x = a[i]!;
      const y = b[i]!;
      const delta = y - x;
      if (!Number.isFinite(delta)) continue;
      this.#dot += x * y;
      this.#squaresA += x * x;
      this.#squaresB += y * y;
      this.#squaresDelta += delta * delta;
      if (delta > this.#mostDelta) this.#mostDelta = delta;
      else if (-delta > this.#mostDelta) this.#mostDelta = -delta;
    }
  }

  addAll(other: WeightDistance): void {
    this.#dot += other.#dot;
    this.#squaresA += other.#squaresA;
    this.#squaresB += other.#squaresB;
    this.#squaresDelta += other.#squaresDelta;
    this.#mostDelta = Math.max(this.#mostDelta, other.#mostDelta);
  }

  /** a · b / (‖a‖ ‖b‖); 1 for equal ones, zeros included; 0 where one of them is all zeros. */
  get cosine(): number {
    if (this.#squaresDelta === 0) return 1;
    const norms = Math.sqrt(this.#squaresA) * Math.sqrt(this.#squaresB);
    return norms === 0 ? 0 : Math.max(-1, Math.min(1, this.#dot / norms));
  }

  /** ‖b − a‖ / ‖a‖; against an `a` of zeros, 1. */
  get relativeDelta(): number {
    if (this.#squaresDelta === 0) return 0;
    return this.#squaresA === 0 ? 1 : Math.sqrt(this.#squaresDelta / this.#squaresA);
  }

  get mostDelta(): number {
    return this.#mostDelta;
  }

  get norm(): number {
    return Math.sqrt(this.#squaresB);
  }
}
