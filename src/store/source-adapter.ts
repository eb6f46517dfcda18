import type { OnnxModel } from "../onnx/model.ts";
import { BlockllmError } from "../support/errors.ts";
import type { SourceModel } from "./source-folder.ts";

/**
 * The `.onnx_adapter` file that fills a graph's adapter inputs: the one wanted, or the only one beside the graph. null:
 * the graph takes none. Throws `usage` where it takes one and there is no telling which.
 */
export function chooseAdapter(
  model: OnnxModel,
  { adapters, folder }: SourceModel,
  wanted: string | undefined,
): string | null {
  const required = model.graph.inputs.filter(
    ({ name }) => ADAPTER_INPUT.test(name) && !model.graph.initializers.has(name),
  );
  const path = wanted ?? (adapters.length === 1 ? adapters[0] : undefined);
  if (path !== undefined) return path;
  if (required.length === 0) return null;
  const choice =
    adapters.length === 0 ? "and no .onnx_adapter file lies beside it" : `and there are ${adapters.length} adapters`;
  throw new BlockllmError("usage", `${folder} takes an adapter (input ${required[0]!.name}), ${choice}`, {
    hint: `give one with --adapter${adapters.length === 0 ? "" : `: ${adapters.join(", ")}`}`,
  });
}

/** Inputs that Olive's ExtractAdapters makes. */
const ADAPTER_INPUT = /lora_[AB]|lora_magnitude/;
