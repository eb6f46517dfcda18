import { closeSync, openSync, readSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { InferenceSession, Tensor } from "onnxruntime-node";
import type { LiftedTable } from "../../../chain/lift-tables.ts";
import type { TensorInfo } from "../../../onnx/model.ts";
import { readModel } from "../../../onnx/read-model.ts";
import { writeModel } from "../../../onnx/write-model.ts";
import type { ExternalPlacement } from "../../../onnx/write-tensor.ts";
import { OpenSegment } from "../open-segment.ts";
import { noiseRow } from "../product-kernel.ts";
import type { RowSharing } from "../row-sharing.ts";
import { runtimeOptions } from "../runtime-options.ts";
import { TableRows } from "../table-rows.ts";

type Options = InferenceSession.SessionOptions;

/** Bytes on disk per byte of weights while a model is packed: plain and packed, as ONNX Runtime wrote them and aligned. */
export const PACKING_FACTOR = 4;

/**
 * A session of a graph that was packed: its matrices lie in a file as kernels take them. All such sessions, of any thread,
 * map the same memory, where others pack a copy each. Errors: ONNX Runtime's, the file system's.
 */
export async function openPacked(
  path: string,
  { threads, lifted, sharing }: { threads: number; lifted: readonly LiftedTable[]; sharing: RowSharing },
): Promise<OpenSegment> {
  const tables = TableRows.open(lifted);
  try {
    return new OpenSegment({ session: await InferenceSession.create(path, packedOptions(threads)), tables }, sharing);
  } catch (error) {
    tables.close();
    throw error;
  }
}

/** It is optimised already, and optimised again its nodes would not find their packed matrices. */
function packedOptions(threads: number): Options {
  return { ...runtimeOptions(threads), graphOptimizationLevel: "disabled" };
}

/**
 * Has ONNX Runtime optimise a graph and pack its matrices, and writes both to `path` and beside it. `open` makes a session
 * with the options that it is given changes for. Only for this processor and this version. Errors: as openPacked; sessions
 * of it would not compute the same.
 */
export async function writePacked(
  path: string,
  open: (saving: (options: Options) => Options) => Promise<InferenceSession>,
): Promise<void> {
  const written = { model: `${path}.written`, weights: `${basename(path)}.written.weights` };
  const expected = await probe(await open((options) => saving(options, written)));
  await align(written.model, path);
  rmSync(written.model);
  // None where all constants are small.
  rmSync(join(dirname(path), written.weights), { force: true });
  const found = await probe(await InferenceSession.create(path, packedOptions(1)));
  if (found.some((bytes, output) => !bytes.equals(expected[output]!)))
    throw new Error("its packed weights compute something else than its weights");
}

const PROBE_ROWS = 3;

/** What a session makes of some rows, by its outputs; releases it. */
async function probe(session: InferenceSession): Promise<Buffer[]> {
  const feeds = Object.fromEntries(session.inputMetadata.map((input) => [input.name, probeRows(input)]));
  const outputs = await session.run(feeds);
  await session.release();
  return session.outputNames.map((name) => Buffer.from((outputs[name]!.data as Float32Array).slice().buffer));
}

function probeRows(input: InferenceSession.ValueMetadata): Tensor {
  if (!input.isTensor) throw new Error(`${input.name} is no tensor`);
  const dims = input.shape.map((dim, axis) => (typeof dim === "number" ? dim : axis === 0 ? 1 : PROBE_ROWS));
  const noise = noiseRow(dims.reduce((product, dim) => product * dim, 1));
  if (input.type === "float32") return new Tensor("float32", noise, dims);
  // Ids, positions, adapters: 0 is one of each.
  return new Tensor("int64", new BigInt64Array(noise.length), dims);
}

/** Smaller constants stay inside the graph. */
const LEAST_OUTSIDE_BYTES = 1024;

/** https://github.com/microsoft/onnxruntime/blob/main/include/onnxruntime/core/session/onnxruntime_session_options_config_keys.h */
function saving(options: Options, { model, weights }: { model: string; weights: string }): Options {
  const session = {
    ...(options.extra?.["session"] as Record<string, unknown>),
    save_external_prepacked_constant_initializers: "1",
    optimized_model_external_initializers_file_name: weights,
    optimized_model_external_initializers_min_size_in_bytes: String(LEAST_OUTSIDE_BYTES),
  };
  return { ...options, optimizedModelFilePath: model, extra: { ...options.extra, session } };
}

/**
 * Kernels find the parts of what they packed at aligned addresses in it, so it must lie as it lay when it was packed. ONNX
 * Runtime 1.30 writes it at any byte: mapped from there, MatMulNBits computes nonsense or the process crashes.
 */
const ALIGNMENT = 4096;

async function align(from: string, to: string): Promise<void> {
  const model = await readModel(from);
  const location = `${basename(to)}.weights`;
  const file = openSync(join(dirname(to), location), "wx", 0o600);
  try {
    const copy = alignedCopies(file);
    const place = ({ data }: TensorInfo): ExternalPlacement | null => {
      if (data.kind === "bytes") return null;
      const { path, offset, length, packed = new Map<string, string>() } = data;
      const moved = new Map([...packed].map(([key, value]) => [key, movedPieces(value, (piece) => copy(path, piece))]));
      return { location, offset: copy(path, { offset, length }), length, packed: moved };
    };
    writeFileSync(to, writeModel(model, place), { flag: "wx", mode: 0o600 });
  } finally {
    closeSync(file);
  }
}

interface Piece {
  offset: number;
  length: number;
}

/** `key|offset;length;checksum`, of several pieces one behind the other (onnxruntime/core/framework/tensor_external_data_info.cc). */
function movedPieces(value: string, move: (piece: Piece) => number): string {
  return value.replace(/(?<=[|;])(\d+);(\d+);(\d+)/g, (_, offset: string, length: string, checksum: string) =>
    [move({ offset: Number(offset), length: Number(length) }), length, checksum].join(";"),
  );
}

/** Copies pieces to the end of a file, each to an aligned place; gives that. */
function alignedCopies(file: number): (path: string, piece: Piece) => number {
  const buffer = new Uint8Array(2 ** 22);
  let end = 0;
  return (path, { offset, length }) => {
    const start = Math.ceil(end / ALIGNMENT) * ALIGNMENT;
    const source = openSync(path, "r");
    try {
      for (let done = 0; done < length;) {
        const count = readSync(source, buffer, 0, Math.min(buffer.length, length - done), offset + done);
        if (count === 0) throw new Error(`${path} ends ${length - done} bytes early`);
        for (let written = 0; written < count;)
          written += writeSync(file, buffer, written, count - written, start + done + written);
        done += count;
      }
    } finally {
      closeSync(source);
    }
    end = start + length;
    return start;
  };
}
