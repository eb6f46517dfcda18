/**
 * Sketches against sha256, search over a million sketches, the low-rank test of a large pair, and residual ratios.
 *
 *   npm run bench:similarity -- [--repeats 5] [--json]
 */
import { createHash } from "node:crypto";
import { parseArgs } from "node:util";
import Table from "cli-table3";

import { ElementStream } from "../src/fingerprint/element-stream.ts";
import { findLowRank } from "../src/fingerprint/low-rank.ts";
import { type Matrix, MatrixProducts } from "../src/fingerprint/matrix-products.ts";
import { nearestSketches } from "../src/fingerprint/nearest-sketches.ts";
import { randomBits } from "../src/fingerprint/seeded-random.ts";
import { SKETCH_WORDS, sketchBlock, TensorSketch } from "../src/fingerprint/sketch.ts";
import { floatToHalf } from "../src/onnx/numbers.ts";
import type { ElementType } from "../src/onnx/model.ts";
import { residualBytes } from "../src/store/residual.ts";
import { findZstd } from "../src/store/zstd.ts";
import { machine, showSpread, spreadOf } from "./measure.ts";
import { gaussians } from "../test/fingerprint/gaussians.ts";

const ELEMENTS = 8 << 20;
const CHUNK_BYTES = 1 << 20;
const SKETCHES = 1_000_000;
const CLUSTER = 100;
const SIDE = 2048;

/** Ratios that integer delta, byte planes and zstd level 1 are known to reach on such pairs (docs/decisions). */
const RESIDUAL_GOALS: { dtype: "float32" | "float16" | "bfloat16"; relative: number; goal: number }[] = [
  { dtype: "float32", relative: 1e-2, goal: 1.48 },
  { dtype: "float32", relative: 1e-3, goal: 1.7 },
  { dtype: "float32", relative: 1e-4, goal: 2.13 },
  { dtype: "bfloat16", relative: 1e-2, goal: 3.37 },
  { dtype: "bfloat16", relative: 1e-3, goal: 6.5 },
  { dtype: "bfloat16", relative: 1e-4, goal: 18.7 },
  { dtype: "float16", relative: 1e-3, goal: 3.63 },
];

const { values: settings } = parseArgs({
  options: { repeats: { type: "string", default: "5" }, json: { type: "boolean", default: false } },
});
const repeats = Number(settings.repeats);
const rows: { what: string; measured: string; goal: string }[] = [
  ...measureSketching(),
  ...measureSearch(),
  ...(await measureLowRank()),
  ...(await measureResiduals()),
];
if (settings.json) console.log(JSON.stringify({ machine: machine(), rows }, null, 2));
else print();

function measureSketching(): typeof rows {
  const values = gaussians(ELEMENTS, 1).map((value) => 0.02 * value);
  return (["float32", "bfloat16", "float16"] as const).map((dtype) => {
    const bytes = store(values, dtype);
    const pairs = Array.from({ length: repeats }, () => [timed(() => hash(bytes)), timed(() => sketch(bytes, dtype))]);
    const speed = (bytes.length / 1e6 / spreadOf(pairs.map(([, own]) => own!)).median) * 1000;
    return {
      what: `sketch of ${dtype}, speed / sha256's speed (${speed.toFixed(0)} MB/s)`,
      measured: showSpread(spreadOf(pairs.map(([sha256, own]) => sha256! / own!)), 2),
      goal: "at least 0.33",
    };
  });
}

function measureSearch(): typeof rows {
  const random = new Uint32Array(SKETCHES * SKETCH_WORDS).map((_, at) => randomBits(1, at));
  const families = random.slice();
  // Each sketch of a family differs from its first by some 8 bits.
  for (let at = 0; at < families.length; at++) {
    const place = Math.floor(at / SKETCH_WORDS);
    const first = place - (place % CLUSTER);
    families[at] = random[first * SKETCH_WORDS + (at % SKETCH_WORDS)]! ^ (1 << (randomBits(2, at) & 31));
  }
  return Object.entries({ "families of 100": families, "unrelated sketches": random }).map(([name, packed]) => {
    const queries = Array.from({ length: 10 * repeats }, (_, at) => {
      const query = packed.slice(at * 8000, at * 8000 + SKETCH_WORDS);
      return timed(() => void nearestSketches(packed, query, 10));
    });
    return {
      what: `nearest 10 of ${SKETCHES} ${name}, ms`,
      measured: showSpread(spreadOf(queries), 1),
      goal: "below 20",
    };
  });
}

async function measureLowRank(): Promise<typeof rows> {
  const products = await MatrixProducts.open();
  const base = gaussians(SIDE * SIDE, 3).map((value) => 0.02 * value);
  const measured: typeof rows = [];
  for (const rank of [8, 16, 64, SIDE]) {
    const change = rank === SIDE ? gaussians(SIDE * SIDE, 4) : (await randomOfRank(rank, products)).values;
    const tuned = base.map((value, i) => value + 2e-4 * change[i]!);
    const seconds: number[] = [];
    let found: number | null = null;
    for (let repeat = 0; repeat < repeats; repeat++) {
      const began = performance.now();
      found =
        (await findLowRank({ base: square(base), tuned: square(tuned), dtype: "float32" }, products))?.rank ?? null;
      seconds.push((performance.now() - began) / 1000);
    }
    measured.push({
      what: `low-rank test of ${SIDE} × ${SIDE}, ${rank === SIDE ? "full rank" : `rank ${rank}`}: found ${found}, s`,
      measured: showSpread(spreadOf(seconds), 2),
      goal: "below 2",
    });
  }
  await products.close();
  return measured;
}

async function randomOfRank(rank: number, products: MatrixProducts): Promise<Matrix> {
  const left = { rows: SIDE, columns: rank, values: gaussians(SIDE * rank, 5) };
  const right = {
    rows: rank,
    columns: SIDE,
    values: gaussians(SIDE * rank, 6).map((value) => value / Math.sqrt(rank)),
  };
  return await products.product(left, right);
}

async function measureResiduals(): Promise<typeof rows> {
  const zstd = findZstd();
  if (zstd === null) return [{ what: "residuals", measured: "zstd is missing", goal: "" }];
  const values = gaussians(ELEMENTS, 7);
  const noise = gaussians(ELEMENTS, 8);
  const measured: typeof rows = [];
  for (const { dtype, relative, goal } of RESIDUAL_GOALS) {
    const base = store(
      values.map((value) => 0.02 * value),
      dtype,
    );
    const exact = store(
      values.map((value, i) => 0.02 * (value + relative * noise[i]!)),
      dtype,
    );
    const began = performance.now();
    const bytes = await residualBytes({ base, exact, dtype }, zstd);
    const speed = exact.length / 1e3 / (performance.now() - began);
    measured.push({
      what: `residual of ${dtype}, changed by ${relative}: ratio (${speed.toFixed(0)} MB/s)`,
      measured: (exact.length / bytes).toFixed(2),
      goal: `at least ${goal}`,
    });
  }
  return measured;
}

function hash(bytes: Uint8Array): void {
  const running = createHash("sha256");
  for (let at = 0; at < bytes.length; at += CHUNK_BYTES) running.update(bytes.subarray(at, at + CHUNK_BYTES));
  running.digest();
}

function sketch(bytes: Uint8Array, dtype: ElementType): void {
  const elements = new ElementStream(dtype);
  const tensor = new TensorSketch(0);
  for (let at = 0; at < bytes.length; at += CHUNK_BYTES) {
    for (const piece of elements.pieces(bytes.subarray(at, at + CHUNK_BYTES))) tensor.add(piece);
  }
  sketchBlock([tensor.finish()]);
}

/** Values rounded to a type, as a model file has them. */
function store(values: Float32Array, dtype: "float32" | "float16" | "bfloat16"): Uint8Array {
  if (dtype === "float32") return new Uint8Array(values.slice().buffer);
  const codes = new Uint16Array(values.length);
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < codes.length; i++) {
    codes[i] = dtype === "float16" ? floatToHalf(values[i]!) : (bits[i]! + 0x7fff + ((bits[i]! >>> 16) & 1)) >>> 16;
  }
  return new Uint8Array(codes.buffer);
}

function square(values: Float32Array): Matrix {
  return { rows: SIDE, columns: SIDE, values };
}

function timed(task: () => void): number {
  const began = performance.now();
  task();
  return performance.now() - began;
}

function print(): void {
  const { cpu, threads, memoryGB, node } = machine();
  console.log(`${cpu}, ${threads} threads, ${memoryGB} GiB, Node ${node}; median (least–most) of ${repeats} or more`);
  const table = new Table({ head: ["", "measured", "goal"], style: { head: [], border: [] } });
  table.push(...rows.map(({ what, measured, goal }) => [what, measured, goal]));
  console.log(table.toString());
}
