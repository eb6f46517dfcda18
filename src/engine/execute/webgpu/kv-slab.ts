import type { Tensor } from "onnxruntime-node";
import type { CoreSpec } from "../../../blocks/block.ts";
import { deviceBytesPerToken } from "../../kv/capacity.ts";
import { type DeviceTensors, integers, viewAs } from "./device-tensors.ts";

/** Keys and values of one layer, [slots, kvHeads, capacity, headSize] each. */
export interface SlabLayer {
  keys: Tensor;
  values: Tensor;
}

/** A slot whose first `tokens` rows go to another one. */
export interface SlotMove {
  from: number;
  to: number;
  tokens: number;
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

  /** It was there, and was disposed. */
  get isGone(): boolean {
    return this.#layers.length === 0;
  }

  get bytes(): number {
    return this.#slots * this.capacity * deviceBytesPerToken(this.#cores);
  }

  /** Copies the first `tokens` rows of slots of another slab into slots of this one. */
  async copyFrom(source: KvSlab, moves: readonly SlotMove[], tensors: DeviceTensors): Promise<void> {
    const places = this.#placesOf(moves, source.capacity);
    for (const [at, core] of this.#cores.entries())
      await copyLayer(core, { to: this.#layers[at]!, from: source.#layers[at]! }, { places: places(core), tensors });
  }

  /**
   * Becomes `slots` slots large; `moves` says whose rows stay, and where. One layer after the other, so that only one is there
   * twice; where memory ends on the way, all of it is disposed.
   */
  async resize(slots: number, moves: readonly SlotMove[], tensors: DeviceTensors): Promise<void> {
    const places = this.#placesOf(moves, this.capacity);
    try {
      for (const [at, core] of this.#cores.entries()) {
        const [layer] = await makeLayers([core], { capacity: this.capacity, slots }, tensors);
        const before = this.#layers[at]!;
        this.#layers[at] = layer!;
        try {
          await copyLayer(core, { to: layer!, from: before }, { places: places(core), tensors });
        } finally {
          disposeLayers([before]);
        }
      }
    } catch (error) {
      this.dispose();
      throw error;
    }
    this.#slots = slots;
  }

  /** Which rows of matrices [slots × kvHeads × capacity, headSize] go where. */
  #placesOf(moves: readonly SlotMove[], capacity: number): (core: CoreSpec) => Record<"source" | "target", Tensor> {
    const known = new Map<number, Record<"source" | "target", Tensor>>();
    return ({ kvHeads }) => {
      const rows = (slot: number, of: number, tokens: number): number[] =>
        Array.from({ length: kvHeads * tokens }, (_, i) => {
          return (slot * kvHeads + Math.floor(i / tokens)) * of + (i % tokens);
        });
      const source = (): number[] => moves.flatMap(({ from, tokens }) => rows(from, capacity, tokens));
      const target = (): number[] => moves.flatMap(({ to, tokens }) => rows(to, this.capacity, tokens));
      const places = known.get(kvHeads) ?? { source: asRows(source()), target: asRows(target(), 1) };
      known.set(kvHeads, places);
      return places;
    };
  }

  /** A copy of what is in it on the host; `putBack` makes a disposed slab whole again. */
  async read(tensors: DeviceTensors): Promise<Float32Array[]> {
    const contents: Float32Array[] = [];
    for (const { keys, values } of this.#layers)
      for (const tensor of [keys, values]) contents.push((await tensors.download(tensor)).slice());
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

async function copyLayer(
  { headSize }: CoreSpec,
  { to, from }: Record<"to" | "from", SlabLayer>,
  { places, tensors }: { places: Record<"source" | "target", Tensor>; tensors: DeviceTensors },
): Promise<void> {
  if (places.source.size > 0) await tensors.copyRows(matrices(to, headSize), matrices(from, headSize), places);
}

function asRows(rows: readonly number[], ...more: number[]): Tensor {
  return integers(rows, [rows.length, ...more]);
}

function disposeLayers(layers: readonly SlabLayer[]): void {
  for (const { keys, values } of layers) for (const tensor of new Set([keys, values])) tensor.dispose();
}

function matrices({ keys, values }: SlabLayer, headSize: number): [Tensor, Tensor] {
  const matrix = (tensor: Tensor): Tensor => viewAs(tensor, [tensor.size / headSize, headSize]);
  return [matrix(keys), matrix(values)];
}
