import { InferenceSession, Tensor } from "onnxruntime-node";
import type { Attribute, GraphNode, OnnxModel, ValueInfo } from "../../../onnx/model.ts";
import { ownModel } from "../../../onnx/own-model.ts";
import { writeModel } from "../../../onnx/write-model.ts";
import { webgpuOptions } from "./webgpu-options.ts";

const MOST_SPARE = 64;

type Tools = Record<"zeros" | "upload" | "download" | "copyRows", InferenceSession>;

/** Makes and moves tensors that live on the device. The garbage collector does not free them: `dispose` does. */
export class DeviceTensors {
  readonly #open: InferenceSession[];
  readonly #tools: Tools;
  readonly #gather = new Map<number, InferenceSession>();
  readonly #spare = new Map<string, Tensor[]>();
  #spareCount = 0;

  private constructor(tools: Tools, open: InferenceSession[]) {
    this.#tools = tools;
    this.#open = open;
  }

  /** Leaves no session behind where it fails: the device would stay the one it is. */
  static async open(): Promise<DeviceTensors> {
    const shape: ValueInfo = { name: "shape", dtype: "int64", dims: ["rank"] };
    const zeros = toolModel([shape], [node("ConstantOfShape", ["shape"], ["y"])], [floats("y")]);
    const same = toolModel([floats("x")], [node("Identity", ["x"], ["y"])], [floats("y")]);
    // The shape of ConstantOfShape is read on the CPU, which the strict options would refuse.
    const loose = { ...webgpuOptions("device"), extra: { session: { intra_op: { allow_spinning: "0" } } } };
    const open: InferenceSession[] = [];
    const tool = async (model: OnnxModel, options: InferenceSession.SessionOptions): Promise<InferenceSession> => {
      open.push(await InferenceSession.create(writeModel(model), options));
      return open.at(-1)!;
    };
    try {
      const tools = {
        zeros: await tool(zeros, loose),
        upload: await tool(same, webgpuOptions("device")),
        download: await tool(same, webgpuOptions({ y: "host" })),
        copyRows: await tool(copyModel(), webgpuOptions("given")),
      };
      return new DeviceTensors(tools, open);
    } catch (error) {
      await releaseAll(open);
      throw error;
    }
  }

  async zeros(dims: readonly number[]): Promise<Tensor> {
    return (await this.#tools.zeros.run({ shape: integers(dims, [dims.length]) }))["y"]!;
  }

  /** Memory with any contents, for outputs; `recycle` keeps it for the next that wants these dims. */
  async scratch(dims: readonly number[]): Promise<Tensor> {
    const key = dims.join();
    const spare = this.#spare.get(key)?.pop();
    if (!spare) return await this.zeros(dims);
    this.#spareCount--;
    return spare;
  }

  recycle(tensor: Tensor): void {
    if (this.#spareCount >= MOST_SPARE) this.#disposeSpare();
    const key = tensor.dims.join();
    this.#spare.set(key, [...(this.#spare.get(key) ?? []), tensor]);
    this.#spareCount++;
  }

  async upload(values: Float32Array, dims: readonly number[]): Promise<Tensor> {
    return (await this.#tools.upload.run({ x: new Tensor("float32", values, dims) }))["y"]!;
  }

  async download(tensor: Tensor): Promise<Float32Array> {
    return (await this.#tools.download.run({ x: tensor }))["y"]!.data as Float32Array;
  }

  /** Rows of [1, N, width] tensors, all of one width, laid end to end and picked by `rows`: [1, rows, width]. */
  async gather(tensors: readonly Tensor[], rows: readonly number[]): Promise<Tensor> {
    const session = this.#gather.get(tensors.length) ?? (await this.#openGather(tensors.length));
    const feeds = Object.fromEntries(tensors.map((tensor, at) => [`x${at}`, tensor]));
    return (await session.run({ ...feeds, rows: integers(rows, [rows.length]) }))["y"]!;
  }

  /** Copies rows of two matrices [rows, width] into two others, in place. `places` can be used again. */
  async copyRows(
    to: readonly [Tensor, Tensor],
    from: readonly [Tensor, Tensor],
    places: Record<"source" | "target", Tensor>,
  ): Promise<void> {
    const feeds = { to0: to[0], to1: to[1], from0: from[0], from1: from[1], ...places };
    const written = await this.#tools.copyRows.run(feeds, { y0: to[0], y1: to[1] });
    for (const view of Object.values(written)) view.dispose();
  }

  async close(): Promise<void> {
    this.#disposeSpare();
    this.#gather.clear();
    await releaseAll(this.#open);
  }

  #disposeSpare(): void {
    for (const tensors of this.#spare.values()) for (const tensor of tensors) tensor.dispose();
    this.#spare.clear();
    this.#spareCount = 0;
  }

  async #openGather(count: number): Promise<InferenceSession> {
    const names = Array.from({ length: count }, (_, at) => `x${at}`);
    const joined = count === 1 ? [] : [node("Concat", names, ["all"], { axis: { kind: "int", value: 1 } })];
    const pick = node("Gather", [count === 1 ? "x0" : "all", "rows"], ["y"], { axis: { kind: "int", value: 1 } });
    const inputs = [...names.map(floats), { name: "rows", dtype: "int64", dims: ["M"] } satisfies ValueInfo];
    const model = toolModel(inputs, [...joined, pick], [floats("y")]);
    const session = await InferenceSession.create(writeModel(model), webgpuOptions("device"));
    this.#open.push(session);
    this.#gather.set(count, session);
    return session;
  }
}

/** A second time it finds none. */
async function releaseAll(sessions: InferenceSession[]): Promise<void> {
  for (const session of sessions.splice(0)) await session.release();
}

/** The same memory under other dims of as many elements. It needs no `dispose` of its own. */
export function viewAs(tensor: Tensor, dims: readonly number[]): Tensor {
  return Tensor.fromGpuBuffer(tensor.gpuBuffer, { dataType: "float32", dims: [...dims] });
}

export function integers(values: readonly number[], dims: readonly number[]): Tensor {
  return new Tensor("int64", BigInt64Array.from(values, BigInt), dims);
}

/** Gather from one matrix, ScatterND into another: with the target given as output too, nothing else is touched. */
function copyModel(): OnnxModel {
  const both = [0, 1];
  const nodes = both.flatMap((at) => [
    node("Gather", [`from${at}`, "source"], [`rows${at}`]),
    node("ScatterND", [`to${at}`, "target", `rows${at}`], [`y${at}`]),
  ]);
  const matrix = (name: string, rows: string): ValueInfo => ({ name, dtype: "float32", dims: [rows, `${name}width`] });
  const inputs = both.flatMap((at) => [matrix(`to${at}`, "R"), matrix(`from${at}`, "Q")]);
  inputs.push({ name: "source", dtype: "int64", dims: ["M"] }, { name: "target", dtype: "int64", dims: ["M", 1] });
  return toolModel(
    inputs,
    nodes,
    both.map((at) => matrix(`y${at}`, "R")),
  );
}

/** A small graph without weights. */
export function toolModel(inputs: ValueInfo[], nodes: GraphNode[], outputs: ValueInfo[]): OnnxModel {
  return ownModel({ name: "tool", nodes, initializers: new Map(), inputs, outputs });
}

export function node(
  opType: string,
  inputs: string[],
  outputs: string[],
  attributes: Record<string, Attribute> = {},
): GraphNode {
  const domain = opType === "GroupQueryAttention" ? "com.microsoft" : "";
  return { name: outputs[0]!, opType, domain, inputs, outputs, attributes: new Map(Object.entries(attributes)) };
}

function floats(name: string): ValueInfo {
  return { name, dtype: "float32", dims: null };
}
