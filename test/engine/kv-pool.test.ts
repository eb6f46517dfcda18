import fc from "fast-check";
import { Tensor } from "onnxruntime-node";
import { expect, test } from "vitest";
import type { CoreSpec } from "../../src/blocks/block.ts";
import type { DeviceTensors } from "../../src/engine/execute/webgpu/device-tensors.ts";
import { KvPool, type KvPlace } from "../../src/engine/execute/webgpu/kv-pool.ts";
import { coreOf, TINY } from "./tiny-model.ts";

const CORES: CoreSpec[] = [coreOf(TINY), coreOf({ ...TINY, kvHeads: 4, headSize: 4 })];
const ROW_BYTES = 4 * 2 * 8;
/** Four slots of the smallest capacity, two of the next, one of all others. */
const MOST_TENSOR_BYTES = 4 * 64 * ROW_BYTES;

/** Device tensors whose memory is here. */
class HostTensors {
  readonly open = new Set<object>();
  largest = 0;
  /** So many tensors can still be made. */
  left = Infinity;

  zeros(dims: readonly number[]): Promise<Tensor> {
    if (this.left-- <= 0) return Promise.reject(new Error("out of memory"));
    const size = dims.reduce((product, dim) => product * dim, 1);
    const buffer = { values: new Float32Array(size) };
    this.open.add(buffer);
    this.largest = Math.max(this.largest, size * 4);
    const options = { dataType: "float32" as const, dims: [...dims], dispose: () => void this.open.delete(buffer) };
    return Promise.resolve(Tensor.fromGpuBuffer(buffer as never, options));
  }

  download(tensor: Tensor): Promise<Float32Array> {
    return Promise.resolve(valuesOf(tensor));
  }

  async upload(values: Float32Array, dims: readonly number[]): Promise<Tensor> {
    const tensor = await this.zeros(dims);
    valuesOf(tensor).set(values);
    return tensor;
  }

  copyRows(to: Tensor[], from: Tensor[], places: Record<"source" | "target", Tensor>): Promise<void> {
    const [source, target] = [places.source, places.target].map(({ data }) => [...(data as BigInt64Array)].map(Number));
    for (const [at, tensor] of to.entries()) {
      const width = tensor.dims[1]!;
      source!.forEach((row, i) => {
        valuesOf(tensor).set(valuesOf(from[at]!).subarray(row * width, (row + 1) * width), target![i]! * width);
      });
    }
    return Promise.resolve();
  }
}

function valuesOf(tensor: Tensor): Float32Array {
  return (tensor.gpuBuffer as unknown as { values: Float32Array }).values;
}

/** Where the keys of one token of one head begin, and of the values. */
function forEachRow({ slab, slot }: KvPlace, token: number, visit: (row: Float32Array, name: number) => void): void {
  for (const [layer, { kvHeads, headSize }] of CORES.entries()) {
    for (let head = 0; head < kvHeads; head++) {
      const at = ((slot * kvHeads + head) * slab.capacity + token) * headSize;
      const { keys, values } = slab.layers[layer]!;
      for (const [half, tensor] of [keys, values].entries())
        visit(valuesOf(tensor).subarray(at, at + headSize), layer * 8 + head * 2 + half);
    }
  }
}

/** Another one for every row, and exact as float32. */
function valueOf(mark: number, token: number, name: number): number {
  return mark * 2 ** 14 + token * 2 ** 4 + name;
}

interface Sequence {
  place: KvPlace;
  mark: number;
}

test("every sequence keeps its rows while it moves, and no tensor grows beyond what every device takes", async () => {
  const turn = fc.record({ what: fc.nat({ max: 9 }), which: fc.nat(), tokens: fc.integer({ min: 1, max: 90 }) });
  await fc.assert(
    fc.asyncProperty(fc.array(turn, { minLength: 30, maxLength: 90 }), async (turns) => {
      const tensors = new HostTensors();
      const pool = new KvPool(CORES, { tensors: tensors as unknown as DeviceTensors }, MOST_TENSOR_BYTES);
      const sequences: Sequence[] = [];
      let last = 0;
      let alone = 0;
      const write = async (one: Sequence, count: number): Promise<void> => {
        const end = one.place.tokens + count;
        await pool.reserve(one.place, end);
        alone = Math.max(alone, one.place.slab.capacity * ROW_BYTES);
        for (let token = one.place.tokens; token < end; token++)
          forEachRow(one.place, token, (row, name) => row.fill(valueOf(one.mark, token, name)));
        one.place.tokens = one.place.end = end;
      };
      for (const { what, which, tokens } of turns) {
        await pool.compact();
        const one = sequences[which % Math.max(1, sequences.length)];
        if (!one || what < 4) {
          const place = await pool.begin(tokens);
          sequences.push({ place, mark: ++last });
          await write(sequences.at(-1)!, tokens);
        } else if (what < 7) {
          await write(one, 1);
          await pool.share(one.place);
        } else if (what < 8) {
          await write(one, tokens);
        } else {
          pool.release(one.place);
          sequences.splice(sequences.indexOf(one), 1);
        }
        pool.checkIntegrity(sequences.map(({ place }) => place));
        for (const { place, mark } of sequences)
          for (const token of [0, place.tokens - 1])
            forEachRow(place, token, (row, name) => {
              expect(row[0], `sequence ${mark}`).toBe(valueOf(mark, token, name));
            });
      }
      expect(tensors.largest).toBeLessThanOrEqual(Math.max(MOST_TENSOR_BYTES, alone));
      for (const { place } of sequences) pool.release(place);
      expect([pool.bytes, tensors.open.size]).toEqual([0, 0]);
    }),
    { numRuns: 15 },
  );
});

test("sequences of one capacity share a slab until its tensors are as large as may be", async () => {
  const pool = new KvPool(CORES, { tensors: new HostTensors() as unknown as DeviceTensors }, MOST_TENSOR_BYTES);
  const places: KvPlace[] = [];
  for (let count = 0; count < 11; count++) {
    const place = await pool.begin(5);
    place.tokens = 5;
    await pool.share(place);
    places.push(place);
  }
  const held = [...new Set(places.map((place) => pool.holders(place)))];
  expect(held.map((holders) => holders!.filter((holder) => holder !== null).length)).toEqual([4, 4, 3]);
  pool.release(places[5]!);
  const next = await pool.begin(5);
  await pool.share(next);
  expect(next.slab, "a free slot comes first").toBe(places[4]!.slab);
});

test("where memory ends while a slab grows, its sequences have lost what they had and the others nothing", async () => {
  const tensors = new HostTensors();
  const pool = new KvPool(CORES, { tensors: tensors as unknown as DeviceTensors }, MOST_TENSOR_BYTES);
  const begin = async (tokens: number): Promise<KvPlace> => {
    const place = await pool.begin(tokens);
    place.tokens = tokens;
    return place;
  };
  const [first, second, third, long] = [await begin(5), await begin(5), await begin(5), await begin(100)];
  for (const place of [first, second, long]) await pool.share(place);
  // Of the grown slab one layer can be made, and the keys of the next.
  tensors.left = 3;
  await expect(pool.share(third)).rejects.toThrow("out of memory");
  expect([first, second, third, long].map(({ slab }) => slab.isGone)).toEqual([true, true, false, false]);
  pool.checkIntegrity([third, long]);
  expect(tensors.open.size).toBe(8);
  tensors.left = Infinity;
  await pool.share(third);
  for (const place of [first, second, third, long]) pool.release(place);
  expect([pool.bytes, tensors.open.size]).toEqual([0, 0]);
});

test("everything comes back as it was when the device was opened anew", async () => {
  const tensors = new HostTensors();
  const pool = new KvPool(CORES, { tensors: tensors as unknown as DeviceTensors }, MOST_TENSOR_BYTES);
  const places = [await pool.begin(5), await pool.begin(5), await pool.begin(100)];
  for (const [mark, place] of places.entries()) {
    place.tokens = place.end = 5;
    for (let token = 0; token < 5; token++)
      forEachRow(place, token, (row, name) => row.fill(valueOf(mark, token, name)));
    if (mark < 2) await pool.share(place);
  }
  const putBack = await pool.copyOut();
  pool.leaveDevice();
  expect(tensors.open.size).toBe(0);
  await putBack();
  pool.checkIntegrity(places);
  for (const [mark, place] of places.entries())
    for (let token = 0; token < 5; token++)
      forEachRow(place, token, (row, name) => expect(row[0]).toBe(valueOf(mark, token, name)));
});

test("large slots are made one by one and given back at once, small ones are kept for the next", async () => {
  const layer = coreOf({ ...TINY, kvHeads: 8, headSize: 128 });
  const shared = async (layers: number): Promise<{ pool: KvPool; places: KvPlace[] }> => {
    const cores = Array.from({ length: layers }, () => layer);
    const pool = new KvPool(cores, { tensors: new HostTensors() as unknown as DeviceTensors });
    const places = [await pool.begin(1000), await pool.begin(1000), await pool.begin(1000)];
    for (const place of places) await pool.share(place);
    return { pool, places };
  };
  // 8 MiB a slot and layer.
  const small = await shared(1);
  expect(small.places[0]!.slab.slots).toBe(4);
  small.pool.release(small.places[2]!);
  await small.pool.compact();
  expect(small.places[0]!.slab.slots).toBe(4);
  const large = await shared(9);
  expect(large.places[0]!.slab.slots).toBe(3);
  large.pool.release(large.places[0]!);
  await large.pool.compact();
  expect(large.places[1]!.slab.slots).toBe(2);
});
