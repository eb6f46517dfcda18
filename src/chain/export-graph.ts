import type { CoreSpec, RotarySpec } from "../blocks/block.ts";
import type { Attribute, GraphNode, OnnxModel, TensorInfo, ValueInfo } from "../onnx/model.ts";
import { ownModel } from "../onnx/own-model.ts";
import type { BlockChain, ChainPart } from "./chain.ts";

/** A chain joined again into one decoder graph, with the input and output names that every runner knows. */
export class ExportGraph {
  readonly #nodes: GraphNode[] = [];
  readonly #initializers = new Map<string, TensorInfo>();
  readonly #tables = new Map<RotarySpec, { cos: string; sin: string }>();
  readonly #masks = new Map<string, string>();
  readonly #tableOf: (rotary: RotarySpec) => Promise<{ cos: TensorInfo; sin: TensorInfo }>;

  constructor(tableOf: (rotary: RotarySpec) => Promise<{ cos: TensorInfo; sin: TensorInfo }>) {
    this.#tableOf = tableOf;
  }

  /**
   * input_ids, position_ids [batch, S], attention_mask [batch, past + S], past_key_values.N.key|value
   * [batch, heads, past, size] → logits, present.N.key|value. `readPart` gives a part's graph.
   */
  async join(chain: BlockChain, readPart: (part: ChainPart) => Promise<OnnxModel>): Promise<OnnxModel> {
    const values = new Map<string, string>([
      ["ids", "input_ids"],
      ["positions", "position_ids"],
    ]);
    let opsets = new Map<string, number>();
    for (const step of chain.steps) {
      if (step.kind === "core") {
        values.set("o", this.#addCore(step.layer, step.core, values));
        continue;
      }
      const part = await readPart(step.part);
      opsets = part.opsets;
      if (step.part.rotary !== null)
        for (const [port, rows] of Object.entries(await this.#rotaryRows(step.part.rotary))) values.set(port, rows);
      this.#addPart(part, step.part.label, values);
    }
    this.#add("Identity", [values.get("logits")!], "logits");
    const graph = { name: "decoder", nodes: this.#nodes, initializers: this.#initializers, ...portsOf(chain) };
    return ownModel(graph, opsets);
  }

  /** Copies a part in under its label; its ports become the values that flow along the chain. */
  #addPart({ graph }: OnnxModel, label: string, values: Map<string, string>): void {
    const prefix = `/${label.replaceAll(/[ ()]+/g, "_")}/`;
    const ports = new Set(graph.inputs.map(({ name }) => name));
    const rename = (name: string): string =>
      name === "" ? "" : ports.has(name) ? values.get(name)! : `${prefix}${name}`;
    for (const [name, tensor] of graph.initializers)
      this.#initializers.set(rename(name), { ...tensor, name: rename(name) });
    for (const node of graph.nodes)
      this.#nodes.push({
        ...node,
        name: rename(node.name),
        inputs: node.inputs.map(rename),
        outputs: node.outputs.map((name) => `${prefix}${name}`),
      });
    for (const { name } of graph.outputs) values.set(name === "hidden_out" ? "hidden" : name, `${prefix}${name}`);
  }

  /** ai.onnx.Attention, opset 24, joins past and new keys itself; causal masks align to the last key. */
  #addCore(layer: number, core: CoreSpec, values: Map<string, string>): string {
    const output = `/core.${layer}/o`;
    const attributes: Record<string, Attribute> = {
      is_causal: int(1),
      q_num_heads: int(core.heads),
      kv_num_heads: int(core.kvHeads),
      scale: { kind: "float", value: core.scale },
      softcap: { kind: "float", value: core.softcap ?? 0 },
    };
    const past = ["key", "value"].map((which) => `past_key_values.${layer}.${which}`);
    const present = ["key", "value"].map((which) => `present.${layer}.${which}`);
    const mask = this.#mask(core);
    const joined =
      core.sinks === null ? { mask, past, present } : this.#besideSink(layer, core, { mask, past, present });
    const inputs = [values.get("q")!, values.get("k")!, values.get("v")!, joined.mask, ...joined.past];
    this.#nodes.push({
      name: `/core.${layer}`,
      opType: "Attention",
      domain: "",
      inputs,
      outputs: [output, ...joined.present],
      attributes: new Map(Object.entries(attributes)),
    });
    if (core.sinks !== null)
      joined.present.forEach((raw, i) =>
        this.#add(
          "Slice",
          [raw, this.#int("/sink/1", [1]), this.#int("/sink/end", [END]), this.#int("/sink/2", [2])],
          present[i]!,
        ),
      );
    return output;
  }

  /** A sink is a key before the first: a row of zeros, whose whole score is what the mask adds. */
  #besideSink(
    layer: number,
    { heads, sinks }: CoreSpec,
    { mask, past }: { mask: string; past: string[]; present: string[] },
  ): { mask: string; past: string[]; present: string[] } {
    const at = `/core.${layer}/sink/`;
    const pads = this.#int("/sink/pads", [0, 0, 1, 0, 0, 0, 0, 0]);
    const padded = past.map((name, i) => this.#add("Pad", [name, pads], `${at}past.${i}`));
    const shape = this.#add("Shape", [mask], `${at}shape`);
    const [batch, tokens] = [0, 2].map((axis) =>
      this.#add(
        "Slice",
        [shape, this.#int(`/sink/from.${axis}`, [axis]), this.#int(`/sink/to.${axis}`, [axis + 1])],
        `${at}axis.${axis}`,
      ),
    ) as [string, string];
    const keys = this.#add(
      "Slice",
      [shape, this.#int("/sink/from.3", [3]), this.#int("/sink/to.3", [4])],
      `${at}axis.3`,
    );
    const wide = this.#int("/sink/heads", [heads]);
    const whole = this.#add(
      "Expand",
      [mask, this.#add("Concat", [batch, wide, tokens, keys], `${at}whole.shape`, { axis: int(0) })],
      `${at}whole`,
    );
    const one = this.#int("/sink/one", [1]);
    const column = this.#add(
      "Expand",
      [
        this.#float(`${at}logits`, sinks!, [1, heads, 1, 1]),
        this.#add("Concat", [batch, wide, tokens, one], `${at}column.shape`, { axis: int(0) }),
      ],
      `${at}column`,
    );
    return {
      mask: this.#add("Concat", [column, whole], `${at}mask`, { axis: int(3) }),
      past: padded,
      present: [`${at}present.key`, `${at}present.value`],
    };
  }

  /** Additive [batch, 1 or heads, S, T]: padding, and the window or the slopes where the core has them. */
  #mask({ heads, window, alibiSlopes }: CoreSpec): string {
    const key = JSON.stringify([window, alibiSlopes]);
    const known = this.#masks.get(key);
    if (known !== undefined) return known;
    const at = `/mask.${this.#masks.size}/`;
    const { queries, keys } = this.#maskAxes();
    let visible = "/mask/attended";
    if (window !== null) {
      const oldest = this.#add("Sub", [queries, this.#int(`${at}window`, [window])], `${at}oldest`);
      const recent = this.#add("Greater", [keys, oldest], `${at}recent`);
      visible = this.#add("And", [visible, recent], `${at}visible`);
    }
    let bias = this.#float("/mask/zero", [0], []);
    if (alibiSlopes !== null) {
      const distance = this.#add("Sub", [keys, queries], `${at}distance`);
      const numbers = this.#add("Cast", [distance], `${at}distance.float`, { to: int(1) });
      bias = this.#add("Mul", [numbers, this.#float(`${at}slopes`, alibiSlopes, [1, heads, 1, 1])], `${at}bias`);
    }
    const masked = this.#add(
      "Where",
      [visible, bias, this.#float("/mask/hidden", [-3.4028234663852886e38], [])],
      `${at}mask`,
    );
    this.#masks.set(key, masked);
    return masked;
  }

  /** Positions of queries [S, 1] and keys [1, T], and /mask/attended [batch, 1, S, T] from attention_mask; made once. */
  #maskAxes(): { queries: string; keys: string } {
    if (this.#masks.size === 0) {
      const axis = (from: string, index: number): string =>
        this.#add("Shape", [from], `/mask/${from}.${index}`, { start: int(index), end: int(index + 1) });
      const scalar = (from: string): string => this.#add("Squeeze", [from], `${from}.scalar`);
      const [batch, sequence, total] = [axis("input_ids", 0), axis("input_ids", 1), axis("attention_mask", 1)];
      const zero = this.#int("/mask/0", []);
      const one = this.#int("/mask/1", [], 1);
      const past = this.#add("Sub", [scalar(total), scalar(sequence)], "/mask/past");
      const end = this.#add("Add", [past, `${sequence}.scalar`], "/mask/end");
      const queryRow = this.#add("Range", [past, end, one], "/mask/query.row");
      this.#add("Unsqueeze", [queryRow, this.#int("/mask/last", [-1])], "/mask/queries");
      this.#add("Range", [zero, `${total}.scalar`, one], "/mask/keys");
      const attended = this.#add("Cast", ["attention_mask"], "/mask/bool", { to: int(9) });
      const wide = this.#add("Unsqueeze", [attended, this.#int("/mask/inner", [1, 2])], "/mask/wide");
      const shape = this.#add("Concat", [batch, this.#int("/mask/one", [1]), sequence, total], "/mask/shape", {
        axis: int(0),
      });
      this.#add("Expand", [wide, shape], "/mask/attended");
    }
    return { queries: "/mask/queries", keys: "/mask/keys" };
  }

  async #rotaryRows(rotary: RotarySpec): Promise<{ cos: string; sin: string }> {
    const known = [...this.#tables].find(([each]) => JSON.stringify(each) === JSON.stringify(rotary))?.[1];
    if (known !== undefined) return known;
    const prefix = `/rotary.${this.#tables.size}/`;
    const table = await this.#tableOf(rotary);
    const rows = { cos: "", sin: "" };
    for (const which of ["cos", "sin"] as const) {
      const name = `${prefix}${which}.table`;
      this.#initializers.set(name, { ...table[which], name });
      rows[which] = this.#add("Gather", [name, "position_ids"], `${prefix}${which}`);
      if (table[which].dtype !== "float32")
        rows[which] = this.#add("Cast", [rows[which]], `${prefix}${which}.float`, { to: int(1) });
    }
    this.#tables.set(rotary, rows);
    return rows;
  }

  #add(opType: string, inputs: string[], output: string, attributes: Record<string, Attribute> = {}): string {
    this.#nodes.push({
      name: output,
      opType,
      domain: "",
      inputs,
      outputs: [output],
      attributes: new Map(Object.entries(attributes)),
    });
    return output;
  }

  /** Integers [n], or a scalar when the list is empty. */
  #int(name: string, values: number[], scalar = 0): string {
    const bytes = new Uint8Array(
      BigInt64Array.from(values.length === 0 ? [BigInt(scalar)] : values.map((value) => BigInt(value))).buffer,
    );
    this.#initializers.set(name, {
      name,
      dtype: "int64",
      dims: values.length === 0 ? [] : [values.length],
      data: { kind: "bytes", bytes },
    });
    return name;
  }

  #float(name: string, values: number[], dims: number[]): string {
    this.#initializers.set(name, {
      name,
      dtype: "float32",
      dims,
      data: { kind: "bytes", bytes: new Uint8Array(Float32Array.from(values).buffer) },
    });
    return name;
  }
}

/** Slice to the end of an axis. */
const END = Number.MAX_SAFE_INTEGER;

function portsOf({ cores, document }: BlockChain): { inputs: ValueInfo[]; outputs: ValueInfo[] } {
  const cache = (prefix: string, tokens: string): ValueInfo[] =>
    cores.flatMap((core, layer) => [
      { name: `${prefix}.${layer}.key`, dtype: "float32", dims: ["batch_size", core.kvHeads, tokens, core.headSize] },
      {
        name: `${prefix}.${layer}.value`,
        dtype: "float32",
        dims: ["batch_size", core.kvHeads, tokens, core.valueHeadSize],
      },
    ]);
  const ids = (name: string, tokens: string): ValueInfo => ({ name, dtype: "int64", dims: ["batch_size", tokens] });
  return {
    inputs: [
      ids("input_ids", "sequence_length"),
      ids("attention_mask", "total_sequence_length"),
      ids("position_ids", "sequence_length"),
      ...cache("past_key_values", "past_sequence_length"),
    ],
    outputs: [
      { name: "logits", dtype: "float32", dims: ["batch_size", "sequence_length", document.vocabSize] },
      ...cache("present", "total_sequence_length"),
    ],
  };
}

function int(value: number): Attribute {
  return { kind: "int", value };
}
