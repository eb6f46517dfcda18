/** Node 20 has resizable buffers; the library types of ES2023 do not know them yet. */
interface ResizableBuffer extends ArrayBuffer {
  resize(byteLength: number): void;
}
const ReservedBuffer = ArrayBuffer as unknown as new (
  byteLength: number,
  options: { maxByteLength: number },
) => ResizableBuffer;

/**
 * Rows of float32 that grow in place. Only address space is reserved for `maxRows`; memory comes with `resize` and goes
 * back to the operating system when it shrinks. A view is valid until the next `resize` below its end.
 */
export class GrowableRows {
  readonly width: number;
  readonly #maxBytes: number;
  #byteLength: number;
  #buffer: ResizableBuffer;

  /** `lent`: by rows of the same width in another thread. */
  constructor(width: number, maxRows: number, lent?: ArrayBuffer) {
    this.width = width;
    this.#maxBytes = maxRows * width * 4;
    this.#buffer = (lent as ResizableBuffer | undefined) ?? new ReservedBuffer(0, { maxByteLength: this.#maxBytes });
    this.#byteLength = this.#buffer.byteLength;
  }

  get byteLength(): number {
    return this.#byteLength;
  }

  resize(rows: number): void {
    this.#byteLength = rows * this.width * 4;
    this.#buffer.resize(this.#byteLength);
  }

  write(row: number, values: Float32Array): void {
    this.view(row, row + values.length / this.width).set(values);
  }

  /** Rows [from, to), not copied. */
  view(from: number, to: number): Float32Array<ArrayBuffer> {
    return new Float32Array(this.#buffer, from * this.width * 4, (to - from) * this.width);
  }

  /** What holds the rows, to be transferred to another thread: until `takeBack` there are none here. */
  lend(): ArrayBuffer {
    return this.#buffer;
  }

  /** null: it was lost, and with it all rows. */
  takeBack(buffer: ArrayBuffer | null): void {
    this.#buffer = (buffer as ResizableBuffer | null) ?? new ReservedBuffer(0, { maxByteLength: this.#maxBytes });
    if (buffer === null) this.#byteLength = 0;
  }
}
