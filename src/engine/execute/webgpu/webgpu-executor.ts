import { Tensor } from "onnxruntime-node";
import type { CoreSpec, RotarySpec } from "../../../blocks/block.ts";
import { ADAPTER_INPUT } from "../../../chain/attach-factors.ts";
import type { Plan, Segment } from "../../../chain/plan.ts";
import type { RotaryTable } from "../../../chain/rotary-rows.ts";
import { deviceBytesPerToken } from "../../kv/capacity.ts";
import { layOutBatch } from "../batch-layout.ts";
import type { BatchItem, Executor, Needs } from "../executor.ts";
import { RotaryBatch } from "../rotary-batch.ts";
import { joinRanges } from "../row-store.ts";
import { adapterRows, handOutLogits, runsOf, standingBefore, type Standing } from "../standing.ts";
import { tokenInput, type TokenRows } from "../token-inputs.ts";
import type { WalkStage } from "../walk-stages.ts";
import { addCall, type CoreCall, type DeviceSequence } from "./core-calls.ts";
import { deviceLost } from "./device-errors.ts";
import { DeviceRows } from "./device-rows.ts";
import type { DeviceSession } from "./device-session.ts";
import { KvPool, type KvPlace } from "./kv-pool.ts";
import type { WebgpuDevice } from "./webgpu-device.ts";

/** A plan with what running it on the device needs. */
export interface DevicePlan {
  plan: Plan;
  stages: WalkStage[];
  /** By the segments' ids. */
  sessions: readonly DeviceSession[];
  needs: Needs;
  /** Model key → its chain. */
  chainOf: ReadonlyMap<string, number>;
  rank: number[];
  tables: ReadonlyMap<RotarySpec, RotaryTable>;
}

/** Of what loaded segments take, the most that unloaded ones may still take (WebgpuDevice.keptBytes) while others run. */
const KEPT_SHARE = 0.5;
const RENEWAL_PAUSE_MS = 60_000;

interface StepRows extends TokenRows {
  values: DeviceRows;
  logits: Float32Array[];
}

/**
 * The chain executor for a WebGPU device: weights, rows between segments, keys and values stay on it. Token ids,
 * positions and angles go up, logits come down. It walks the same stages over the same flat batch as on the CPU.
 */
export class WebgpuExecutor implements Executor {
  readonly device: WebgpuDevice;
  #ready: DevicePlan;
  readonly #pools = new Map<string, KvPool>();
  readonly #sequences = new Map<number, DeviceSequence>();
  /** Caches are on the host while the device is opened anew. */
  #keepsCaches = false;
  #renewed = -Infinity;

  constructor(device: WebgpuDevice, ready: DevicePlan) {
    this.device = device;
    device.onLeave = () => void (this.#keepsCaches || this.#forgetCaches());
    device.makeRoom = async () => this.#makeRoom();
    this.#ready = ready;
  }

  get needs(): Needs {
    return this.#ready.needs;
  }

  get deviceLosses(): number {
    return this.device.losses;
  }

  /** Goes on by another plan, between two batches. It must have the models of all sequences; their caches stay. */
  adopt(ready: DevicePlan): void {
    this.#ready = ready;
  }

  open(sequence: number, { model }: { model: string; maxTokens: number }): void {
    const chain = this.#ready.chainOf.get(model);
    if (chain === undefined) throw new Error(`No chain of the plan is called ${model}`);
    const planned = this.#ready.plan.chains[chain]!.chain;
    const bytesPerToken = deviceBytesPerToken(planned.cores);
    const empty = { place: null, tokens: 0, gone: false };
    this.#sequences.set(sequence, { model, pool: this.#poolFor(planned.cores), bytesPerToken, ...empty });
  }

  readState(): Float32Array {
    throw new Error("Keys and values on the device are not read back");
  }

  writeState(): void {
    throw new Error("Keys and values on the device are not written from outside");
  }

  truncate(sequence: number, tokens: number): void {
    const one = this.#sequences.get(sequence)!;
    one.tokens = Math.min(one.tokens, tokens);
    if (one.place) one.place.tokens = one.place.end = one.tokens;
  }

  release(sequence: number): void {
    const one = this.#sequences.get(sequence);
    if (one?.place) one.pool.release(one.place);
    this.#sequences.delete(sequence);
  }

  /** Of the capacities that sequences have; `deviceBytes` has free slots too. */
  stateBytes(): number {
    const held = [...this.#sequences.values()];
    return held.reduce((sum, { bytesPerToken, place }) => sum + bytesPerToken * (place?.slab.capacity ?? 0), 0);
  }

  /** Bytes of keys and values that are taken on the device, free slots included. */
  deviceBytes(): number {
    return [...this.#pools.values()].reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /**
   * Errors: device_lost, after which all sequences with tokens are gone; memory_exceeded. The next call opens a lost device
   * anew. Where nothing was on it yet this one does, and nobody is told.
   */
  async execute(items: BatchItem[]): Promise<Float32Array[]> {
    const begins = [...this.#sequences.values()].every(({ tokens }) => tokens === 0);
    try {
      return await this.#attempt(items);
    } catch (error) {
      const known = await this.device.diagnose(error);
      const again =
        known?.code === "device_lost" ? begins : known?.code === "memory_exceeded" && (await this.#makeRoom());
      if (!again) throw known ?? error;
    }
    try {
      return await this.#attempt(items);
    } catch (error) {
      throw (await this.device.diagnose(error)) ?? error;
    }
  }

  async close(): Promise<void> {
    this.#sequences.clear();
    for (const pool of this.#pools.values()) pool.dispose();
    await this.device.close();
  }

  /** Throws if a slot of device memory is held by no sequence, or a sequence has lost its own. */
  checkIntegrity(): void {
    for (const pool of this.#pools.values()) {
      const ofPool = [...this.#sequences.values()].filter((one) => one.pool === pool && !one.place?.slab.isGone);
      pool.checkIntegrity(ofPool.flatMap(({ place }) => place ?? []));
    }
  }

  async #attempt(items: BatchItem[]): Promise<Float32Array[]> {
    await this.device.ensureOpen();
    const gone = [...this.#sequences.values()].find((one) => one.gone || one.place?.slab.isGone);
    if (gone) throw deviceLost(new Error(`a sequence of ${gone.model} had its keys and values on it`));
    await this.#giveBack(KEPT_SHARE);
    return await this.#runBatch(items);
  }

  async #runBatch(items: BatchItem[]): Promise<Float32Array[]> {
    const chainOf = (item: BatchItem): number => this.#ready.chainOf.get(this.#sequences.get(item.sequence)!.model)!;
    const batch = layOutBatch(items, chainOf, this.#ready.rank);
    for (const pool of this.#pools.values()) await pool.compact();
    for (const item of items) await this.#placeRows(item);
    const step: StepRows = {
      values: new DeviceRows(batch.positions.length, this.device.tensors),
      ids: batch.ids,
      positions: BigInt64Array.from(batch.positions, BigInt),
      rotary: new RotaryBatch(batch.positions, this.#ready.tables),
      logits: items.map(() => new Float32Array(0)),
    };
    try {
      for (const stage of this.#ready.stages) {
        const standing = standingBefore(stage, batch.placed);
        for (const together of runsOf(standing, this.#ready.sessions[stage.segment.id]!.rowInvariant))
          await this.#runSegment(stage.segment, together, step);
      }
    } finally {
      step.values.dispose();
    }
    for (const item of items) {
      const sequence = this.#sequences.get(item.sequence)!;
      sequence.tokens = sequence.place!.tokens = sequence.place!.end;
    }
    return step.logits;
  }

  /** Nobody waits: the time to give back what unloaded segments still take. */
  async whileIdle(): Promise<void> {
    // A failure shows again in the next call, which says so to whom it concerns.
    await this.#giveBack(0).catch(async (error: unknown) => this.device.diagnose(error));
  }

  /** The weights of segments that were unloaded leave the device only when everything does, and then comes back. */
  async #giveBack(keptShare: number): Promise<void> {
    const loaded = this.#ready.sessions.filter(({ isLoaded }) => isLoaded);
    const bytes = loaded.reduce((sum, session) => sum + session.bytes, 0);
    if (this.device.keptBytes > bytes * keptShare) await this.#renew();
  }

  /**
   * Where memory ended: freed tensors that ONNX Runtime keeps, of sizes that nobody wants any more, go as well. Not again and
   * again, as it takes long; false: not now.
   */
  async #makeRoom(): Promise<boolean> {
    if (performance.now() - this.#renewed < RENEWAL_PAUSE_MS) return false;
    await this.#renew();
    return true;
  }

  /** Everything leaves the device, and comes back to it when it was opened anew. */
  async #renew(): Promise<void> {
    this.#renewed = performance.now();
    const pools = [...this.#pools.values()];
    const putBack: (() => Promise<void>)[] = [];
    try {
      for (const pool of pools) putBack.push(await pool.copyOut());
    } catch (error) {
      throw (await this.device.diagnose(error)) ?? error;
    }
    for (const pool of pools) pool.leaveDevice();
    this.#keepsCaches = true;
    try {
      await this.device.reopen();
      for (const put of putBack) await put();
    } catch (error) {
      this.#forgetCaches();
      throw (await this.device.diagnose(error)) ?? error;
    } finally {
      this.#keepsCaches = false;
    }
  }

  /** Sequences that have tokens cannot go on. */
  #forgetCaches(): void {
    for (const pool of this.#pools.values()) pool.dispose();
    this.#pools.clear();
    for (const one of this.#sequences.values()) {
      const { chain } = this.#ready.plan.chains[this.#ready.chainOf.get(one.model)!]!;
      Object.assign(one, { pool: this.#poolFor(chain.cores), place: null, gone: one.gone || one.tokens > 0 });
    }
  }

  #poolFor(cores: readonly CoreSpec[]): KvPool {
    const key = cores.map(({ kvHeads, headSize }) => `${kvHeads}x${headSize}`).join();
    const pool = this.#pools.get(key) ?? new KvPool(cores, this.device);
    this.#pools.set(key, pool);
    return pool;
  }

  async #placeRows({ sequence, start, tokens, stepwise }: BatchItem): Promise<void> {
    const one = this.#sequences.get(sequence)!;
    const end = start + tokens.length;
    one.place ??= await one.pool.begin(end);
    await one.pool.reserve(one.place, end);
    if (stepwise) await one.pool.share(one.place);
    one.place.end = end;
  }

  async #runSegment(segment: Segment, standing: Standing[], step: StepRows): Promise<void> {
    const ranges = joinRanges(standing.map(({ rows }) => rows));
    const rows = ranges.flatMap(({ start, count }) => Array.from({ length: count }, (_, row) => start + row));
    const places = rows.map((_, at) => at);
    const feeds: Record<string, Tensor> = {};
    const borrowed: Tensor[] = [];
    let outputs: Record<string, Tensor>;
    try {
      for (const port of segment.inputs) {
        const host = tokenInput(port, { standing, ranges, rowCount: rows.length }, step);
        if (host) {
          feeds[port.name] = host;
          continue;
        }
        const { tensor, own } = await step.values.take(port.name, port.width, ranges);
        feeds[port.name] = tensor;
        if (own) borrowed.push(tensor);
      }
      if (segment.adapters.length > 0)
        feeds[ADAPTER_INPUT] = new Tensor("int64", adapterRows(standing), [1, rows.length]);
      outputs = await this.#ready.sessions[segment.id]!.run(feeds);
    } finally {
      for (const tensor of borrowed) tensor.dispose();
    }

    for (const { name, width } of segment.outputs) {
      const tensor = outputs[name]!;
      const free = (): void => tensor.dispose();
      if (name === "hidden_out") step.values.put({ port: "hidden", width }, { tensor, free }, { rows, places });
      if (name === "logits") handOutLogits(tensor.data as Float32Array, width, { standing, logits: step.logits });
    }
    if (outputs["q"]) await this.#runCores(outputs, standing, step);
  }

  /** Calls with one query row per sequence serve whole slabs; a prompt's rows go in calls of their own. */
  async #runCores(outputs: Record<string, Tensor>, standing: Standing[], step: StepRows): Promise<void> {
    const calls: CoreCall[] = [];
    let first = 0;
    for (const { placed, member, rows } of standing) {
      const one = this.#sequences.get(placed.item.sequence)!;
      const position = placed.item.start + rows.start - placed.rows.start;
      const stride = one.pool.holders(one.place!) ? 1 : this.device.chunkRows(member.core!.spec);
      for (let from = 0; from < rows.count; from += stride) {
        const count = Math.min(stride, rows.count - from);
        addCall(calls, {
          one,
          core: member.core!,
          round: from,
          source: first + from,
          row: rows.start + from,
          position: position + from,
          count,
        });
      }
      first += rows.count;
    }
    try {
      for (const call of calls) await this.#runCall(call, outputs, step);
    } finally {
      for (const name of ["q", "k", "v"]) outputs[name]!.dispose();
    }
  }

  async #runCall(call: CoreCall, outputs: Record<string, Tensor>, step: StepRows): Promise<void> {
    const { spec, layer } = call.core;
    const { pool, place } = call.members[0]!.one as DeviceSequence & { place: KvPlace };
    const holders = pool.holders(place) ?? [place];
    const memberOf = new Map(call.members.map((member) => [member.one.place, member]));
    const rows: number[] = [];
    const last: number[] = [];
    for (const holder of holders) {
      const member = holder && memberOf.get(holder);
      const count = member?.count ?? call.members[0]!.count;
      for (let row = 0; row < count; row++) rows.push(member ? member.source + row : 0);
      // A slot that does not take part is written behind its end, where nobody reads.
      last.push(member ? member.position + count - 1 : (holder?.end ?? 0));
    }
    const highest = Math.max(...last) + 1;
    // A window's kernel rounds by the total: it must not follow who else is in the slab.
    const total = spec.window !== null && pool.holders(place) ? place.slab.capacity : highest;
    const { q, k, v } = outputs as { q: Tensor; k: Tensor; v: Tensor };
    const o = await this.device.cores.attend(spec, { q, k, v, layer: place.slab.layers[layer]!, rows, last, total });
    const taken = holders.flatMap((holder, slot) => {
      const member = holder && memberOf.get(holder);
      if (!member) return [];
      return Array.from({ length: member.count }, (_, row) => ({
        row: member.row + row,
        place: slot * member.count + row,
      }));
    });
    const width = spec.heads * spec.headSize;
    const where = { rows: taken.map(({ row }) => row), places: taken.map(({ place: at }) => at) };
    step.values.put({ port: "o", width }, o, where);
  }
}
