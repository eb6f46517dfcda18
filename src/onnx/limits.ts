import { BlockllmError } from "../support/errors.ts";

/**
 * What a file may claim at most. A file beyond one of these is refused with the value and the limit, before anything
 * of that size is allocated.
 */
export const LIMITS = {
  /** protobuf's own bound on one message; ONNX Runtime shares it. Weights beyond it live in external data. */
  modelFileBytes: 2 ** 31 - 1,
  /** Names, attributes and small tensors kept in memory once read: an 80-layer dynamo export needs about 30 MiB. */
  graphMemoryBytes: 512 * 2 ** 20,
  /** An unrolled mixture of 48 layers × 128 experts has about 100 000 nodes. */
  nodes: 500_000,
  /** The same mixture has about 20 000 weights; quantised ones have three tensors each. */
  initializers: 200_000,
  /** Exporters write one function per module class; hundreds at most. */
  functions: 10_000,
  /** Model-local functions calling each other; a function per module class nests about eight deep. */
  callDepth: 24,
  /** If and Loop bodies inside each other; every level is a level of recursion in the reader. Real models have two. */
  graphDepth: 16,
  /** Beyond this a count is no longer an exact JavaScript number. */
  elements: Number.MAX_SAFE_INTEGER,
  /** NumPy's bound. */
  rank: 64,
  /** 2^40 elements along one axis is beyond any weight file. */
  dimension: 2 ** 40,
  /** Scoped names of deep modules stay below 1 KiB. */
  nameBytes: 16 * 1024,
} as const;

export type Limit = keyof typeof LIMITS;

/** Throws `model_too_large` naming `what`, the value and the limit. */
export function checkLimit(limit: Limit, value: number, what: string): void {
  if (value <= LIMITS[limit]) return;
  throw new BlockllmError("model_too_large", `${what}: ${value} is over the limit ${LIMITS[limit]} (${limit})`, {
    ...(limit === "modelFileBytes" && {
      hint: "save the weights as external data: onnx.save(model, path, save_as_external_data=True)",
    }),
  });
}
