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
  readonly #buffer: ResizableBuffer;

  constructor(width: number, maxRows: number) {
    this.width = width;
    this.#buffer = new ReservedBuffer(0, { maxByteLength: maxRows * width * 4 });
  }

  get byteLength(): number {
    return this.#buffer.byteLength;
  }

  resize(rows: number): void {
    this.#buffer.resize(rows * this.width * 4);
  }

  write(row: number, values: Float32Array): void {
    this.view(row, row + values.length / this.width).set(values);
  }

  /** Rows [from, to), not copied. */
  view(from: number, to: number): Float32Array<ArrayBuffer> {
    return new Float32Array(this.#buffer, from * this.width * 4, (to - from) * this.width);
  }
}
