import type { CoreSpec } from "../../../blocks/block.ts";
import { capacityFor, deviceBytesPerToken } from "../../kv/capacity.ts";
import type { DeviceTensors } from "./device-tensors.ts";
import { KvSlab } from "./kv-slab.ts";

/** Where a sequence's keys and values lie. */
export interface KvPlace {
  slab: KvSlab;
  slot: number;
  /** Rows that are its tokens'. */
  tokens: number;
  /** Row behind the last one that the running step writes: what lies from here on is never read. */
  end: number;
}

/** Fewer free slots than these, of less memory than that, stay for those who come next. */
const SPARE_SLOTS = 8;
const SPARE_BYTES = 64 * 2 ** 20;
/** Every WebGPU device takes a tensor of this size (maxStorageBufferBindingSize); a larger one only some do. */
const MOST_TENSOR_BYTES = 128 * 2 ** 20;

/** A slab for several sequences, and who is in which of its slots. */
interface SharedSlab {
  slab: KvSlab;
  holders: (KvPlace | null)[];
}

/**
 * Device memory for all sequences whose models cache alike. A prompt has a slab to itself, because a call with several
 * rows and a past takes one sequence; when it starts to decode it moves into a slab that decoding sequences of its
 * capacity share, so that one call per layer serves them: all of them, as long as a tensor is not too large for that.
 */
export class KvPool {
  readonly #cores: readonly CoreSpec[];
  readonly #device: { readonly tensors: DeviceTensors };
  readonly #alone = new Set<KvPlace>();
  readonly #shared = new Map<KvSlab, SharedSlab>();
  readonly #mostTensorBytes: number;

  constructor(
    cores: readonly CoreSpec[],
    device: { readonly tensors: DeviceTensors },
    mostTensorBytes = MOST_TENSOR_BYTES,
  ) {
    this.#cores = cores;
    this.#device = device;
    this.#mostTensorBytes = mostTensorBytes;
  }

  /** What is really taken on the device, free slots included. */
  get bytes(): number {
    return this.#slabs().reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** Room for a new sequence's first tokens. */
  async begin(tokens: number): Promise<KvPlace> {
    const slab = await KvSlab.make(this.#cores, { capacity: capacityFor(tokens), slots: 1 }, this.#device.tensors);
    const place: KvPlace = { slab, slot: 0, tokens: 0, end: 0 };
    this.#alone.add(place);
    return place;
  }

  /** Makes a place hold at least `tokens`. */
  async reserve(place: KvPlace, tokens: number): Promise<void> {
    const capacity = capacityFor(tokens);
    if (capacity <= place.slab.capacity) return;
    const slab = await KvSlab.make(this.#cores, { capacity, slots: 1 }, this.#device.tensors);
    try {
      await slab.copyFrom(place.slab, [{ from: place.slot, to: 0, tokens: place.tokens }], this.#device.tensors);
    } catch (error) {
      slab.dispose();
      throw error;
    }
    this.#leave(place);
    this.#alone.add(Object.assign(place, { slab, slot: 0 }));
  }

  /** Moves a place into a shared slab of its capacity, where it stays while it decodes. */
  async share(place: KvPlace): Promise<void> {
    if (!this.#alone.has(place)) return;
    const shared = this.#roomyOf(place.slab.capacity);
    if (!shared) {
      this.#alone.delete(place);
      this.#shared.set(place.slab, { slab: place.slab, holders: [place] });
      return;
    }
    if (!shared.holders.includes(null)) await this.#resize(shared, this.#grownSlots(shared.slab));
    const slot = shared.holders.indexOf(null);
    const moves = [{ from: 0, to: slot, tokens: place.tokens }];
    await shared.slab.copyFrom(place.slab, moves, this.#device.tensors);
    this.#leave(place);
    Object.assign(place, { slab: shared.slab, slot });
    shared.holders[slot] = place;
  }

  /** All who decode in the same slab; null: the place is alone. */
  holders(place: KvPlace): readonly (KvPlace | null)[] | null {
    return this.#shared.get(place.slab)?.holders ?? null;
  }

  release(place: KvPlace): void {
    this.#leave(place);
  }

  /** Gives memory of free slots back where there is much of it. */
  async compact(): Promise<void> {
    for (const shared of this.#shared.values()) {
      const used = shared.holders.filter((holder) => holder !== null).length;
      const free = shared.slab.slots - used;
      const isMuch = free * this.#slotBytes(shared.slab) > SPARE_BYTES || (free >= SPARE_SLOTS && free > used);
      if (isMuch) await this.#resize(shared, used);
    }
  }

  /** A copy of everything in it, for while the device is opened anew. What comes back puts it there again. */
  async copyOut(): Promise<() => Promise<void>> {
    const taken = new Map<KvSlab, Float32Array[]>();
    for (const slab of this.#slabs()) taken.set(slab, await slab.read(this.#device.tensors));
    return async () => {
      for (const [slab, contents] of taken) await slab.putBack(contents, this.#device.tensors);
    };
  }

  /** Who is where stays known: `copyOut` puts it back. */
  leaveDevice(): void {
    for (const slab of this.#slabs()) slab.dispose();
  }

  dispose(): void {
    for (const slab of this.#slabs()) slab.dispose();
    this.#alone.clear();
    this.#shared.clear();
  }

  /** Throws unless exactly `places` have a slot each. */
  checkIntegrity(places: readonly KvPlace[]): void {
    const held = [...this.#alone];
    for (const { slab, holders } of this.#shared.values()) {
      if (holders.length !== slab.slots) throw new Error(`${holders.length} holders of ${slab.slots} slots`);
      holders.forEach((holder, slot) => {
        if (!holder) return;
        if (holder.slab !== slab || holder.slot !== slot) throw new Error(`Slot ${slot} is not its holder's`);
        held.push(holder);
      });
    }
    const wrong = held.find((place) => !places.includes(place)) ?? places.find((place) => !held.includes(place));
    if (wrong || held.length !== places.length)
      throw new Error(`${places.length} sequences have caches, but ${held.length} slots are held`);
  }

  #slabs(): KvSlab[] {
    return [...[...this.#alone].map(({ slab }) => slab), ...[...this.#shared.values()].map(({ slab }) => slab)];
  }

  #leave(place: KvPlace): void {
    if (this.#alone.delete(place)) return place.slab.dispose();
    const shared = this.#shared.get(place.slab);
    if (shared?.holders[place.slot] !== place) return;
    shared.holders[place.slot] = null;
    if (shared.holders.some((holder) => holder !== null)) return;
    shared.slab.dispose();
    this.#shared.delete(shared.slab);
  }

  /** One with a free slot, or else one that may grow. */
  #roomyOf(capacity: number): SharedSlab | undefined {
    const alike = [...this.#shared.values()].filter(({ slab }) => slab.capacity === capacity);
    return (
      alike.find(({ holders }) => holders.includes(null)) ??
      alike.find(({ slab }) => slab.slots < this.#grownSlots(slab))
    );
  }

  /** Doubled while small, then by eight, but by one where slots are large: what lies idle is nobody's. */
  #grownSlots(slab: KvSlab): number {
    const { slots, capacity } = slab;
    const most = Math.floor(this.#mostTensorBytes / (capacity * largestRowBytes(this.#cores)));
    const spare = Math.max(1, Math.floor(SPARE_BYTES / this.#slotBytes(slab)));
    return Math.max(slots, Math.min(most, slots + Math.min(slots, SPARE_SLOTS, spare)));
  }

  #slotBytes({ capacity }: KvSlab): number {
    return capacity * deviceBytesPerToken(this.#cores);
  }

  /** Error: then its sequences have lost what they had. */
  async #resize(shared: SharedSlab, slots: number): Promise<void> {
    const holders = shared.holders.filter((holder) => holder !== null);
    const moves = holders.map(({ slot, tokens }, to) => ({ from: slot, to, tokens }));
    try {
      await shared.slab.resize(slots, moves, this.#device.tensors);
    } catch (error) {
      this.#shared.delete(shared.slab);
      throw error;
    }
    holders.forEach((holder, slot) => (holder.slot = slot));
    shared.holders = Array.from({ length: slots }, (_, slot) => holders[slot] ?? null);
  }
}

/** Of the widest tensor of keys or values. */
function largestRowBytes(cores: readonly CoreSpec[]): number {
  return Math.max(...cores.map(({ kvHeads, headSize }) => kvHeads * headSize * Float32Array.BYTES_PER_ELEMENT));
}
