import { open } from "node:fs/promises";

import { BlockllmError } from "../support/errors.ts";

const CHUNK_BYTES = 1 << 20;

export interface FileRange {
  path: string;
  offset: number;
  length: number;
}

/** The bytes of a part of a file, in fresh chunks of up to 1 MiB. A file that ends before the range does: `external_data_short`. */
export async function* readRange(range: FileRange): AsyncGenerator<Uint8Array> {
  const handle = await open(range.path);
  try {
    let done = 0;
    while (done < range.length) {
      const chunk = Buffer.allocUnsafeSlow(Math.min(CHUNK_BYTES, range.length - done));
      const { bytesRead } = await handle.read(chunk, 0, chunk.length, range.offset + done);
      if (bytesRead === 0) throw tooShort(range, done);
      done += bytesRead;
      yield chunk.subarray(0, bytesRead);
    }
  } finally {
    await handle.close();
  }
}

function tooShort(range: FileRange, given: number): BlockllmError {
  return new BlockllmError(
    "external_data_short",
    `${range.path} ends at byte ${range.offset + given}; ${range.length} bytes from ${range.offset} were to be read`,
    { hint: "copy the model's files again: one of them is not complete" },
  );
}
