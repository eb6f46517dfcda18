import { isUtf8 } from "node:buffer";
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { BlockllmError } from "../support/errors.ts";
import { reasonOf } from "../support/reason.ts";
import { checkLimit } from "./limits.ts";
import { statFile } from "./stat-file.ts";
import { wideToNumber } from "./wide-integer.ts";

const WINDOW_BYTES = 32 * 1024;
/** What a decoded message or string costs in the JavaScript heap besides its bytes; a generous estimate. */
const OBJECT_BYTES = 128;

export const VARINT = 0;
export const FIXED64 = 1;
export const LENGTH_DELIMITED = 2;
export const FIXED32 = 5;

/**
 * protobuf's wire format (https://protobuf.dev/programming-guides/encoding/) over a file, through one small window:
 * what is skipped is never read. `next()` moves to a field's value, then exactly one of the value methods or `skip()`
 * consumes it. Every length is checked against its message and the file before anything is allocated.
 */
export class WireReader {
  readonly path: string;
  readonly size: number;
  /** Where the next unread byte is. */
  position = 0;
  /** Wire type of the current field. */
  #wireType = 0;
  /** End of the current field's value when it is length-delimited. */
  #valueEnd = 0;
  /** The last varint: its low and high 32 bits, unsigned. */
  low = 0;
  high = 0;
  readonly #file: number;
  readonly #window = Buffer.allocUnsafe(WINDOW_BYTES);
  readonly #view = new DataView(this.#window.buffer, this.#window.byteOffset, WINDOW_BYTES);
  #windowStart = 0;
  #windowEnd = 0;
  #charged = 0;

  constructor(path: string) {
    this.path = path;
    this.#file = openModelFile(path);
    this.size = fstatSync(this.#file).size;
  }

  close(): void {
    closeSync(this.#file);
  }

  /** Field number of the next field of the message that ends at `end`, or 0 when the message is over. */
  next(end: number): number {
    if (this.position >= end) return 0;
    const start = this.position;
    this.#varint(end);
    const field = this.low >>> 3;
    this.#wireType = this.low & 7;
    if (this.high !== 0 || field === 0) throw this.invalid("a field number that protobuf does not allow", start);
    if (this.#wireType === LENGTH_DELIMITED) {
      this.#varint(end);
      const length = this.high * 2 ** 32 + this.low;
      if (length > end - this.position) {
        throw this.invalid(`field ${field} says ${length} bytes, ${end - this.position} are left`, start);
      }
      this.#valueEnd = this.position + length;
    } else if (this.#wireType === FIXED32 || this.#wireType === FIXED64) {
      this.#valueEnd = this.position + (this.#wireType === FIXED32 ? 4 : 8);
      if (this.#valueEnd > end) throw this.invalid(`field ${field} is cut off`, start);
    } else if (this.#wireType === VARINT) {
      this.#valueEnd = end;
    } else {
      throw this.invalid(`field ${field} has wire type ${this.#wireType}`, start);
    }
    return field;
  }

  skip(): void {
    if (this.#wireType === VARINT) this.#varint(this.#valueEnd);
    else this.position = this.#valueEnd;
  }

  /** Enters a sub-message (or any length-delimited value) and gives its end. */
  message(what: string): number {
    this.#expect(LENGTH_DELIMITED, what);
    this.charge(OBJECT_BYTES, what);
    return this.#valueEnd;
  }

  /** UTF-8 of at most `nameBytes`. */
  name(what: string): string {
    this.#expect(LENGTH_DELIMITED, what);
    checkLimit("nameBytes", this.#valueEnd - this.position, `${this.path}: length of ${what} at byte ${this.position}`);
    return this.text(what);
  }

  /** UTF-8 of any length. */
  text(what: string): string {
    const start = this.position;
    const bytes = this.bytes(what);
    if (!isUtf8(bytes)) throw this.invalid(`${what} is not UTF-8`, start);
    return bytes.toString("utf8");
  }

  /** A copy of a length-delimited value. */
  bytes(what: string): Buffer {
    this.#expect(LENGTH_DELIMITED, what);
    const length = this.#valueEnd - this.position;
    this.charge(OBJECT_BYTES + length, what);
    const bytes = Buffer.allocUnsafeSlow(length);
    this.#copy(bytes);
    return bytes;
  }

  /** Notes where a length-delimited value lies and passes over it. */
  place(what: string): { offset: number; length: number } {
    this.#expect(LENGTH_DELIMITED, what);
    const offset = this.position;
    this.position = this.#valueEnd;
    return { offset, length: this.#valueEnd - offset };
  }

  /** A signed 64-bit integer as a number (see `wideToNumber` for the edges). */
  int(what: string): number {
    this.#expect(VARINT, what);
    return this.#signed(this.#valueEnd, what);
  }

  float(what: string): number {
    this.#expect(FIXED32, what);
    return this.#float();
  }

  /** One element of a repeated int64, or a packed run of them. */
  ints(what: string, visit: (value: number) => void): void {
    if (this.#wireType !== LENGTH_DELIMITED) return visit(this.int(what));
    const end = this.#valueEnd;
    this.charge((end - this.position) * 8, what);
    while (this.position < end) visit(this.#signed(end, what));
  }

  /** The same for floats. */
  floats(what: string, visit: (value: number) => void): void {
    if (this.#wireType !== LENGTH_DELIMITED) return visit(this.float(what));
    const end = this.#valueEnd;
    if ((end - this.position) % 4 !== 0) throw this.invalid(`${what}: not a whole number of floats`, this.position);
    this.charge((end - this.position) * 2, what);
    while (this.position < end) visit(this.#float());
  }

  /** The same for raw varints: `visit` finds them in `low` and `high`. */
  varints(what: string, visit: () => void): void {
    const end = this.#valueEnd;
    if (this.#wireType !== LENGTH_DELIMITED) {
      this.#expect(VARINT, what);
      this.#varint(end);
      return visit();
    }
    this.charge((end - this.position) * 8, what);
    while (this.position < end) {
      this.#varint(end);
      visit();
    }
  }

  /** One fixed32 or fixed64 (by `wireType`) or a packed run of them, as bytes. */
  fixed(what: string, wireType: typeof FIXED32 | typeof FIXED64): Buffer {
    if (this.#wireType === LENGTH_DELIMITED) return this.bytes(what);
    this.#expect(wireType, what);
    this.charge(OBJECT_BYTES, what);
    const bytes = Buffer.allocUnsafeSlow(this.#valueEnd - this.position);
    this.#copy(bytes);
    return bytes;
  }

  /** Counts memory against the file's budget. */
  charge(bytes: number, what: string): void {
    this.#charged += bytes;
    checkLimit("graphMemoryBytes", this.#charged, `${this.path}: memory for the graph, at ${what}`);
  }

  invalid(what: string, offset: number): BlockllmError {
    return new BlockllmError("model_invalid", `${this.path}: ${what} (at byte ${offset} of ${this.size})`, {
      hint: "the file is damaged or is not an ONNX model; download or export it again",
    });
  }

  #expect(wireType: number, what: string): void {
    if (this.#wireType === wireType) return;
    throw this.invalid(`${what} has wire type ${this.#wireType}, expected ${wireType}`, this.position);
  }

  #signed(end: number, what: string): number {
    const start = this.position;
    this.#varint(end);
    return wideToNumber(this.low, this.high | 0, () => `${this.path}: ${what} at byte ${start}`);
  }

  #varint(end: number): void {
    const start = this.position;
    let low = 0;
    let high = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      if (this.position >= end) throw this.invalid("a number is cut off", start);
      const byte = this.#byte();
      const bits = byte & 0x7f;
      if (shift < 28) low |= bits << shift;
      else if (shift === 28) {
        low |= bits << 28;
        high = bits >>> 4;
      } else if (shift < 63 || bits <= 1) high |= bits << (shift - 32);
      else break;
      if (byte < 0x80) {
        this.low = low >>> 0;
        this.high = high >>> 0;
        return;
      }
    }
    throw this.invalid("a number is longer than 64 bits", start);
  }

  #byte(): number {
    if (this.position < this.#windowStart || this.position >= this.#windowEnd) this.#fill();
    return this.#window[this.position++ - this.#windowStart]!;
  }

  #float(): number {
    if (this.position < this.#windowStart || this.position + 4 > this.#windowEnd) this.#fill();
    if (this.position + 4 > this.#windowEnd) throw this.invalid("a float is cut off", this.position);
    const value = this.#view.getFloat32(this.position - this.#windowStart, true);
    this.position += 4;
    return value;
  }

  #fill(): void {
    const length = readSync(this.#file, this.#window, 0, WINDOW_BYTES, this.position);
    if (length === 0) throw this.invalid("the file ends too early", this.position);
    this.#windowStart = this.position;
    this.#windowEnd = this.position + length;
  }

  #copy(target: Buffer): void {
    let done = 0;
    while (done < target.length) {
      const small = target.length <= WINDOW_BYTES;
      if (small && (this.position < this.#windowStart || this.position >= this.#windowEnd)) this.#fill();
      const from = this.position - this.#windowStart;
      const inWindow = from >= 0 && this.position < this.#windowEnd;
      const length = inWindow
        ? this.#window.copy(target, done, from, this.#windowEnd - this.#windowStart)
        : readSync(this.#file, target, done, target.length - done, this.position);
      if (length === 0) throw this.invalid("the file ends too early", this.position);
      done += length;
      this.position += length;
    }
  }
}

function openModelFile(path: string): number {
  const stat = statFile(path);
  if (!stat?.isFile()) {
    throw new BlockllmError("model_not_found", `${path}: ${stat ? "not a file" : "there is no such file"}`, {
      hint: "give the path of an .onnx file or of a folder that holds one",
    });
  }
  checkLimit("modelFileBytes", stat.size, `${path}: file size in bytes`);
  try {
    return openSync(path, "r");
  } catch (cause) {
    throw new BlockllmError("io_failed", `${path} cannot be read: ${reasonOf(cause)}`, { cause });
  }
}
