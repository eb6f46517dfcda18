import { ByteWriter } from "../support/bytes.ts";
import { FIXED32, LENGTH_DELIMITED, VARINT } from "./wire-reader.ts";

/** Sub-messages up to this size are copied into their parent; larger ones (weights) travel as a reference. */
const COPIED_BYTES = 4096;

/** protobuf's wire format, written field by field in the caller's order. */
export class WireWriter {
  length = 0;
  readonly #chunks: Uint8Array[] = [];
  #tail = new ByteWriter();

  /** Integers within ±2^53, negative ones as ten bytes. */
  int(field: number, value: number): void {
    this.#tag(field, VARINT);
    this.#varint(value);
  }

  float(field: number, value: number): void {
    this.#tag(field, FIXED32);
    this.#tail.float32(value);
    this.length += 4;
  }

  ints(field: number, values: number[]): void {
    if (values.length === 0) return;
    const packed = new WireWriter();
    for (const value of values) packed.#varint(value);
    this.message(field, packed);
  }

  floats(field: number, values: number[]): void {
    if (values.length === 0) return;
    this.bytes(field, new Uint8Array(Float32Array.from(values).buffer));
  }

  string(field: number, value: string): void {
    this.bytes(field, Buffer.from(value, "utf8"));
  }

  strings(field: number, values: string[]): void {
    for (const value of values) this.string(field, value);
  }

  bytes(field: number, value: Uint8Array): void {
    this.#tag(field, LENGTH_DELIMITED);
    this.#varint(value.length);
    this.#append(value);
  }

  message(field: number, message: WireWriter): void {
    this.#tag(field, LENGTH_DELIMITED);
    this.#varint(message.length);
    for (const chunk of message.#finishedChunks()) this.#append(chunk);
  }

  finish(): Uint8Array {
    const bytes = new Uint8Array(this.length);
    let position = 0;
    for (const chunk of this.#finishedChunks()) {
      bytes.set(chunk, position);
      position += chunk.length;
    }
    return bytes;
  }

  #tag(field: number, wireType: number): void {
    this.#varint(field * 8 + wireType);
  }

  #append(bytes: Uint8Array): void {
    if (bytes.length > COPIED_BYTES) this.#chunks.push(this.#tail.finish(), bytes);
    else this.#tail.append(bytes);
    this.length += bytes.length;
  }

  #varint(value: number): void {
    const before = this.#tail.length;
    let low = value >>> 0;
    let high = Math.floor(value / 2 ** 32) >>> 0;
    while (high !== 0 || low > 0x7f) {
      this.#tail.byte((low & 0x7f) | 0x80);
      low = ((low >>> 7) | (high << 25)) >>> 0;
      high >>>= 7;
    }
    this.#tail.byte(low);
    this.length += this.#tail.length - before;
  }

  #finishedChunks(): Uint8Array[] {
    this.#chunks.push(this.#tail.finish());
    return this.#chunks;
  }
}
