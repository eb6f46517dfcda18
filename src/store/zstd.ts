import { createRequire } from "node:module";
import zlib from "node:zlib";
import { promisify } from "node:util";

/** Level 1 beats level 3 on byte planes in size and in speed: the matches that level 3 finds there are chance. */
const LEVEL = 1;
/** ZSTD_c_compressionLevel in zstd.h. */
const LEVEL_PARAMETER = 100;

export interface Zstd {
  compress(bytes: Uint8Array): Promise<Uint8Array>;
  decompress(bytes: Uint8Array): Promise<Uint8Array>;
}

export const ZSTD_MISSING =
  "zstd is missing: use Node 22.15 or newer, or install the optional package @toondepauw/node-zstd";

/** Node's own zstd (22.15 and newer), else that of the optional package; null where there is neither. */
export function findZstd(): Zstd | null {
  return nodeZstd(zlib as unknown as NodeZlib) ?? packageZstd();
}

type Coder = (bytes: Uint8Array, options: object, done: (error: Error | null, result: Buffer) => void) => void;

/** What newer versions of node:zlib have besides (https://nodejs.org/api/zlib.html). */
interface NodeZlib {
  zstdCompress?: Coder;
  zstdDecompress?: Coder;
}

function nodeZstd({ zstdCompress, zstdDecompress }: NodeZlib): Zstd | null {
  if (zstdCompress === undefined || zstdDecompress === undefined) return null;
  const compress = promisify(zstdCompress);
  const decompress = promisify(zstdDecompress);
  return {
    compress: async (bytes) => await compress(bytes, { params: { [LEVEL_PARAMETER]: LEVEL } }),
    decompress: async (bytes) => await decompress(bytes, {}),
  };
}

interface PackageZstd {
  Encoder: new (level: number) => { encode(bytes: Buffer): Promise<Buffer> };
  Decoder: new () => { decode(bytes: Buffer): Promise<Buffer> };
}

function packageZstd(): Zstd | null {
  const found = loadPackage();
  if (found === null) return null;
  const encoder = new found.Encoder(LEVEL);
  const decoder = new found.Decoder();
  return {
    compress: async (bytes) => await encoder.encode(asBuffer(bytes)),
    decompress: async (bytes) => await decoder.decode(asBuffer(bytes)),
  };
}

/** Not there: not installed (`npm install --omit=optional`). Without a binary for this platform: its loader throws. */
function loadPackage(): PackageZstd | null {
  try {
    return createRequire(import.meta.url)("@toondepauw/node-zstd") as PackageZstd;
  } catch (error) {
    if (error instanceof Error && /Cannot find (module|native binding)|Failed to load native/.test(error.message))
      return null;
    throw error;
  }
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
