/**
 * How fast the block repository takes in tensors, against sha256 alone over the same bytes.
 *
 *   npx tsx bench/store.ts [--folder <where to write>]
 *
 * The source is one file with the tensor sizes of SmolLM2-135M in float32 (the embedding table is 113 MB).
 */
import { createHash } from "node:crypto";
import { copyFile, mkdtemp, open, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";

import type { TensorInfo } from "../src/onnx/model.ts";
import { storedBytes, streamTensor } from "../src/onnx/tensor-data.ts";
import { MEDIA_TYPES } from "../src/store/descriptor.ts";
import { FileBlobStore } from "../src/store/file-blob-store.ts";

const HIDDEN = 576;
const KEYS = 192;
const INNER = 1536;
const VOCABULARY = 49152;
const LAYERS = 30;
const FLOAT_BYTES = 4;

const { values } = parseArgs({ options: { folder: { type: "string", default: tmpdir() } } });
const work = await mkdtemp(join(values.folder, "blockllm-bench-store-"));
try {
  const tensors = await writeTensors(join(work, "model.data"));
  const bytes = tensors.reduce((sum, tensor) => sum + storedBytes(tensor), 0);
  console.log(`${tensors.length} tensors, ${(bytes / 1e6).toFixed(1)} MB, ${LAYERS} layers, Node ${process.version}`);

  for (let round = 1; round <= 3; round++) {
    const hashing = await timed(() => hashAlone(join(work, "model.data")));
    const copying = await timed(() => copyAlone(join(work, "model.data"), join(work, "copy")));
    const memory = watchMemory();
    const root = join(work, `blocks-${round}`);
    const first = await timed(() => ingest(root, tensors));
    const again = await timed(() => ingest(root, tensors));
    const peak = await memory.stop();
    console.log(
      `round ${round}: sha256 alone ${show(hashing)}, copy and fsync alone ${show(copying)}, ingest ${show(first)} = ${(first / hashing).toFixed(2)}x, ` +
        `all there already ${show(again)} = ${(again / hashing).toFixed(2)}x, peak PSS ${(peak / 1e6).toFixed(0)} MB`,
    );
    await rm(root, { recursive: true });
  }
} finally {
  await rm(work, { recursive: true });
}

function show(seconds: number): string {
  return `${seconds.toFixed(2)} s`;
}

async function ingest(root: string, tensors: TensorInfo[]): Promise<void> {
  const store = new FileBlobStore(root);
  await store.putMany(
    tensors.map((tensor) => ({
      mediaType: MEDIA_TYPES.tensor,
      size: storedBytes(tensor),
      stream: () => streamTensor(tensor),
    })),
  );
}

async function hashAlone(path: string): Promise<void> {
  const running = createHash("sha256");
  const handle = await open(path);
  const chunk = Buffer.allocUnsafeSlow(1 << 20);
  for (;;) {
    const { bytesRead } = await handle.read(chunk);
    if (bytesRead === 0) break;
    running.update(chunk.subarray(0, bytesRead));
  }
  running.digest();
  await handle.close();
}

/** What the disk and the page cache cost: one file, no hash. */
async function copyAlone(from: string, to: string): Promise<void> {
  await copyFile(from, to);
  const handle = await open(to, "r+");
  await handle.sync();
  await handle.close();
  await rm(to);
}

/** Random bytes: no two tensors alike, as in a real model. */
async function writeTensors(path: string): Promise<TensorInfo[]> {
  const perLayer = [
    HIDDEN,
    HIDDEN * HIDDEN,
    HIDDEN * KEYS,
    HIDDEN * KEYS,
    HIDDEN * HIDDEN,
    HIDDEN,
    HIDDEN * INNER,
    HIDDEN * INNER,
    HIDDEN * INNER,
  ];
  const elements = [VOCABULARY * HIDDEN, ...Array.from({ length: LAYERS }, () => perLayer).flat(), HIDDEN];
  const random = Buffer.alloc(1 << 20);
  crypto.getRandomValues(random.subarray(0, 65536));
  for (let at = 65536; at < random.length; at *= 2) random.copy(random, at, 0, at);
  const handle = await open(path, "w");
  const tensors: TensorInfo[] = [];
  let offset = 0;
  for (const count of elements) {
    const length = count * FLOAT_BYTES;
    for (let at = 0; at < length; at += random.length) {
      random.writeDoubleLE(offset + at, 0);
      await handle.write(random, 0, Math.min(random.length, length - at), offset + at);
    }
    tensors.push({
      name: `tensor ${tensors.length}`,
      dtype: "float32",
      dims: [count],
      data: { kind: "file", path, offset, length },
    });
    offset += length;
  }
  await handle.sync();
  await handle.close();
  return tensors;
}

async function timed(task: () => Promise<void>): Promise<number> {
  const start = performance.now();
  await task();
  return (performance.now() - start) / 1000;
}

function watchMemory(): { stop(): Promise<number> } {
  let peak = 0;
  const sample = async () => {
    const match = /^Pss:\s+(\d+) kB/m.exec(await readFile("/proc/self/smaps_rollup", "utf8"));
    peak = Math.max(peak, Number(match?.[1] ?? 0) * 1024);
  };
  const timer = setInterval(() => void sample().catch(() => clearInterval(timer)), 20);
  return {
    stop: async () => {
      clearInterval(timer);
      await sample();
      return peak;
    },
  };
}
