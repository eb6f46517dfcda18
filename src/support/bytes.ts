/** Bytes appended one after another into a buffer that doubles when it is full. Little-endian. */
export class ByteWriter {
  length = 0;
  #buffer = Buffer.allocUnsafeSlow(64);

  append(bytes: Uint8Array): void {
    this.#reserve(bytes.length);
    this.#buffer.set(bytes, this.length);
    this.length += bytes.length;
  }

  byte(value: number): void {
    this.#reserve(1);
    this.#buffer[this.length++] = value;
  }

  uint32(value: number): void {
    this.#reserve(4);
    this.length = this.#buffer.writeUInt32LE(value >>> 0, this.length);
  }

  float32(value: number): void {
    this.#reserve(4);
    this.length = this.#buffer.writeFloatLE(value, this.length);
  }

  /** What was appended; the writer starts anew. */
  finish(): Uint8Array {
    const bytes = new Uint8Array(this.#buffer.buffer, 0, this.length);
    this.length = 0;
    this.#buffer = Buffer.alloc(0);
    return bytes;
  }

  #reserve(more: number): void {
    if (this.length + more <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(64, this.#buffer.length * 2, this.length + more));
    larger.set(this.#buffer.subarray(0, this.length));
    this.#buffer = larger;
  }
}
