import { basename } from "node:path";
import type { TensorInfo } from "../../onnx/model.ts";

/** Weights by the name of their file, for `writeModel`; null: bytes that lie inside the graph. */
export function weightPlace({ data }: TensorInfo): { location: string; offset: number; length: number } | null {
  return data.kind === "file" ? { location: basename(data.path), offset: data.offset, length: data.length } : null;
}
