import type { Tensor } from "onnxruntime-node";
import type { CoreSpec } from "../../../blocks/block.ts";
import { deviceBytesPerToken } from "../../kv/capacity.ts";
import { type DeviceTensors, integers, viewAs } from "./device-tensors.ts";

/** Keys and values of one layer, [slots, kvHeads, capacity, headSize] each. */
export interface SlabLayer {
  keys: Tensor;
  values: Tensor;
}

/** Device memory for several sequences' keys and values over all layers, `capacity` rows each: one slot, one sequence. */
export class KvSlab {
  readonly capacity: number;
  readonly #cores: readonly CoreSpec[];
  #layers: SlabLayer[];
  #slots: number;

  private constructor(cores: readonly CoreSpec[], capacity: number, made: { layers: SlabLayer[]; slots: number }) {
    this.#cores = cores;
    this.capacity = capacity;
    this.#layers = made.layers;
    this.#slots = made.slots;
  }

  static async make(
    cores: readonly CoreSpec[],
    { capacity, slots }: { capacity: number; slots: number },
    tensors: DeviceTensors,
  ): Promise<KvSlab> {
    return new KvSlab(cores, capacity, { slots, layers: await makeLayers(cores, { capacity, slots }, tensors) });
  }

  get slots(): number {
    return this.#slots;
  }

  get layers(): readonly SlabLayer[] {
    return this.#layers;
  }

  get bytes(): number {
    return this.#slots * this.capacity * deviceBytesPerToken(this.#cores);
  }

  /** Copies the first `tokens` rows of slots of another slab, or of this one, into slots of this one. */
  async copyFrom(
    source: { slab: KvSlab; layers?: readonly SlabLayer[] },
    moves: readonly { from: number; to: number; tokens: number }[],
    tensors: DeviceTensors,
  ): Promise<void> {
    const places = new Map<number, Record<"source" | "target", Tensor>>();
    for (const [at, { kvHeads, headSize }] of this.#cores.entries()) {
      const rows = ({ slot, capacity, tokens }: { slot: number; capacity: number; tokens: number }): number[] =>
        Array.from({ length: kvHeads * tokens }, (_, i) => {
          return (slot * kvHeads + Math.floor(i / tokens)) * capacity + (i % tokens);
        });
      if (!places.has(kvHeads)) {
        const { capacity } = source.slab;
        const taken = moves.flatMap(({ from: slot, tokens }) => rows({ slot, capacity, tokens }));
        const put = moves.flatMap(({ to: slot, tokens }) => rows({ slot, capacity: this.capacity, tokens }));
        places.set(kvHeads, { source: integers(taken, [taken.length]), target: integers(put, [put.length, 1]) });
      }
      const copied = places.get(kvHeads)!;
      if (copied.source.size === 0) continue;
      const from = (source.layers ?? source.slab.layers)[at]!;
      await tensors.copyRows(matrices(this.#layers[at]!, headSize), matrices(from, headSize), copied);
    }
  }

  /** Becomes `slots` slots large; `moves` says whose rows stay, and where. */
  async resize(
    slots: number,
    moves: readonly { from: number; to: number; tokens: number }[],
    tensors: DeviceTensors,
  ): Promise<void> {
    const before = { layers: this.#layers, slots: this.#slots };
    this.#layers = await makeLayers(this.#cores, { capacity: this.capacity, slots }, tensors);
    this.#slots = slots;
    try {
      await this.copyFrom({ slab: this, layers: before.layers }, moves, tensors);
    } catch (error) {
      disposeLayers(this.#layers);
      this.#layers = before.layers;
      this.#slots = before.slots;
      throw error;
    }
    disposeLayers(before.layers);
  }

  /** Takes what is in it to the host, and gives the device memory back; `putBack` makes it whole again. */
  async takeOut(tensors: DeviceTensors): Promise<Float32Array[]> {
    const contents: Float32Array[] = [];
    for (const { keys, values } of this.#layers)
      for (const tensor of [keys, values]) contents.push((await tensors.download(tensor)).slice());
    this.dispose();
    return contents;
  }

  async putBack(contents: readonly Float32Array[], tensors: DeviceTensors): Promise<void> {
    for (const [at, { kvHeads, headSize }] of this.#cores.entries()) {
      const dims = [this.#slots, kvHeads, this.capacity, headSize];
      const keys = await tensors.upload(contents[2 * at]!, dims);
      this.#layers.push({ keys, values: await tensors.upload(contents[2 * at + 1]!, dims) });
    }
  }

  dispose(): void {
    disposeLayers(this.#layers);
    this.#layers = [];
  }
}

async function makeLayers(
  cores: readonly CoreSpec[],
  { capacity, slots }: { capacity: number; slots: number },
  tensors: DeviceTensors,
): Promise<SlabLayer[]> {
  const layers: SlabLayer[] = [];
  try {
    for (const { kvHeads, headSize } of cores) {
      const dims = [slots, kvHeads, capacity, headSize];
      const keys = await tensors.zeros(dims);
      layers.push({ keys, values: keys });
      layers.at(-1)!.values = await tensors.zeros(dims);
    }
    return layers;
  } catch (error) {
    disposeLayers(layers);
    throw error;
  }
}

function disposeLayers(layers: readonly SlabLayer[]): void {
  for (const { keys, values } of layers) for (const tensor of new Set([keys, values])) tensor.dispose();
}

function matrices({ keys, values }: SlabLayer, headSize: number): [Tensor, Tensor] {
  const matrix = (tensor: Tensor): Tensor => viewAs(tensor, [tensor.size / headSize, headSize]);
  return [matrix(keys), matrix(values)];
}
