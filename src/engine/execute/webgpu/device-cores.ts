import { InferenceSession, Tensor } from "onnxruntime-node";
import type { CoreSpec } from "../../../blocks/block.ts";
import type { Attribute, OnnxModel, ValueInfo } from "../../../onnx/model.ts";
import { writeModel } from "../../../onnx/write-model.ts";
import { type DeviceTensors, integers, node, toolModel, viewAs } from "./device-tensors.ts";
import type { SlabLayer } from "./kv-slab.ts";
import { webgpuOptions } from "./webgpu-options.ts";

export interface DeviceCall {
  q: Tensor;
  k: Tensor;
  v: Tensor;
  layer: SlabLayer;
  /** Which rows of q, k and v take part: those of the first slot, of the second, ... */
  rows: readonly number[];
  /** Per slot, the position of its last query row. */
  last: readonly number[];
  /** Rows of keys the call may look at: above every `last`. */
  total: number;
}

/**
 * The attention cores on the device: GroupQueryAttention that writes keys and values where they lie. Sequences share a
 * call with one query row each; several rows of one sequence that has a past need a call of their own.
 */
export class DeviceCores {
  readonly #tensors: DeviceTensors;
  readonly #sessions = new Map<string, InferenceSession>();

  constructor(tensors: DeviceTensors) {
    this.#tensors = tensors;
  }

  async open(core: CoreSpec): Promise<void> {
    const key = coreKey(core);
    if (this.#sessions.has(key)) return;
    this.#sessions.set(key, await InferenceSession.create(writeModel(deviceCoreModel(core)), webgpuOptions("given")));
  }

  /** o rows [1, slots × queries, heads × headSize], in the order of `rows`; `free` gives their memory to later calls. */
  async attend(
    core: CoreSpec,
    { q, k, v, layer, rows, last, total }: DeviceCall,
  ): Promise<{ tensor: Tensor; free: () => void }> {
    const slots = last.length;
    const queries = rows.length / slots;
    const width = core.heads * core.headSize;
    const o = await this.#tensors.scratch([slots, queries, width]);
    const feeds = {
      q,
      k,
      v,
      rows: integers(rows, [rows.length]),
      shape: integers([slots, queries, -1], [3]),
      past_key: layer.keys,
      past_value: layer.values,
      last: new Tensor("int32", Int32Array.from(last), [slots]),
      total: new Tensor("int32", Int32Array.of(total), [1]),
    };
    const places = { o, present_key: layer.keys, present_value: layer.values };
    try {
      const written = await this.#sessions.get(coreKey(core))!.run(feeds, places);
      for (const view of Object.values(written)) view.dispose();
    } catch (error) {
      o.dispose();
      throw error;
    }
    return { tensor: viewAs(o, [1, rows.length, width]), free: () => this.#tensors.recycle(o) };
  }

  async close(): Promise<void> {
    for (const session of this.#sessions.values()) await session.release();
    this.#sessions.clear();
  }
}

/** Why GroupQueryAttention cannot be this core; null: it can. */
export function coreObstacle(core: CoreSpec): string | null {
  if (core.alibiSlopes) return "its attention has ALiBi slopes";
  if (core.valueHeadSize !== core.headSize)
    return `its values have heads of ${core.valueHeadSize} numbers, its keys of ${core.headSize}`;
  return null;
}

const keys = new WeakMap<CoreSpec, string>();

/** Equal for cores that may share a call. */
export function coreKey(core: CoreSpec): string {
  const { heads, kvHeads, headSize, scale, softcap, window, sinks } = core;
  const key = keys.get(core) ?? JSON.stringify([heads, kvHeads, headSize, scale, softcap, window, sinks]);
  keys.set(core, key);
  return key;
}

function deviceCoreModel(core: CoreSpec): OnnxModel {
  const { heads, kvHeads, headSize } = core;
  const float = (name: string, dims: (string | number)[]): ValueInfo => ({ name, dtype: "float32", dims });
  const cache = (name: string): ValueInfo => float(name, ["B", kvHeads, "C", headSize]);
  const inputs: ValueInfo[] = [
    float("q", [1, "N", heads * headSize]),
    float("k", [1, "N", kvHeads * headSize]),
    float("v", [1, "N", kvHeads * headSize]),
    { name: "rows", dtype: "int64", dims: ["M"] },
    { name: "shape", dtype: "int64", dims: [3] },
    cache("past_key"),
    cache("past_value"),
    { name: "last", dtype: "int32", dims: ["B"] },
    { name: "total", dtype: "int32", dims: [1] },
  ];
  const axis: Attribute = { kind: "int", value: 1 };
  const picked = ["q", "k", "v"].flatMap((name) => [
    node("Gather", [name, "rows"], [`${name}_rows`], { axis }),
    node("Reshape", [`${name}_rows`, "shape"], [`${name}_slots`]),
  ]);
  const operands = ["q_slots", "k_slots", "v_slots", "past_key", "past_value", "last", "total"];
  if (core.sinks) {
    picked.unshift(node("Constant", [], ["sinks"], { value_floats: { kind: "floats", value: core.sinks } }));
    operands.push("", "", "", "", "sinks");
  }
  const attention = node("GroupQueryAttention", operands, ["o", "present_key", "present_value"], coreAttributes(core));
  const outputs = [float("o", ["B", "S", heads * headSize]), cache("present_key"), cache("present_value")];
  return toolModel(inputs, [...picked, attention], outputs);
}

function coreAttributes({ heads, kvHeads, scale, softcap, window }: CoreSpec): Record<string, Attribute> {
  return {
    num_heads: { kind: "int", value: heads },
    kv_num_heads: { kind: "int", value: kvHeads },
    scale: { kind: "float", value: scale },
    softcap: { kind: "float", value: softcap ?? 0 },
    local_window_size: { kind: "int", value: window ?? -1 },
  };
}
