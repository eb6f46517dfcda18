import type { InferenceSession, Tensor } from "onnxruntime-node";
import type { Segment } from "../../../chain/plan.ts";
import type { BlockSource } from "../../../chain/resolve-chain.ts";
import { deviceSessionBytes } from "../../memory/session-bytes.ts";
import { BlockllmError } from "../../../support/errors.ts";
import type { Loadable } from "../executor.ts";
import { readSegment } from "../read-segment.ts";
import { openSession } from "../rebuilt-weights.ts";
import { cannotLoad, segmentKey } from "../segment-session.ts";
import { forWebgpu, type HalfUse } from "./for-webgpu.ts";
import type { WebgpuDevice } from "./webgpu-device.ts";
import { webgpuOptions } from "./webgpu-options.ts";

/** Where device sessions come from. */
export interface DeviceSource {
  source: BlockSource;
  device: WebgpuDevice;
  half: HalfUse;
}

/** One segment with its weights on the device. Rows stay there; only logits come down. */
export class DeviceSession implements Loadable {
  readonly key: string;
  readonly bytes: number;
  readonly segment: Segment;
  readonly #from: DeviceSource;
  #session: InferenceSession | null = null;
  #isLoaded = false;
  #rowInvariant = false;

  constructor(segment: Segment, from: DeviceSource) {
    this.key = `webgpu ${segmentKey(segment)}`;
    this.bytes = deviceSessionBytes(segment, from.half);
    this.segment = segment;
    this.#from = from;
  }

  /** Also while a lost device is not open again: its weights come back with it. */
  get isLoaded(): boolean {
    return this.#isLoaded;
  }

  /** May rows of several sequences go through it in one run? Known when it is loaded. */
  get rowInvariant(): boolean {
    return this.#rowInvariant;
  }

  /** Errors: device_lost, memory_exceeded, and as Loadable. */
  async load(): Promise<void> {
    if (this.#isLoaded) return;
    try {
      await this.#tryToLoad();
    } catch (error) {
      const isFull = error instanceof BlockllmError && error.code === "memory_exceeded";
      if (!isFull || !(await this.#from.device.makeRoom())) throw error;
      await this.#tryToLoad();
    }
  }

  async #tryToLoad(): Promise<void> {
    const { device } = this.#from;
    try {
      await device.ensureOpen();
      await this.open();
      device.joins(this);
      this.#rowInvariant = await device.isRowInvariant(this);
      this.#isLoaded = true;
    } catch (cause) {
      await this.release();
      device.leaves(this);
      throw (await device.diagnose(cause)) ?? cannotLoad(this.segment, cause);
    }
  }

  async unload(): Promise<void> {
    if (!this.#isLoaded) return;
    this.#isLoaded = false;
    await this.release();
    this.#from.device.leaves(this);
  }

  /** For the device, when it is opened anew. */
  async open(): Promise<void> {
    this.#session = await createSession(this.segment, this.#from);
  }

  async release(): Promise<void> {
    const session = this.#session;
    this.#session = null;
    await session?.release();
  }

  async run(feeds: Record<string, Tensor>): Promise<Record<string, Tensor>> {
    if (!this.#session) throw new Error(`Segment ${this.key} is run while it is not loaded`);
    return await this.#session.run(feeds);
  }
}

async function createSession(segment: Segment, { source, half }: DeviceSource): Promise<InferenceSession> {
  const { model, folder } = await readSegment(segment, source);
  const places = segment.outputs.map(({ name }) => [name, name === "logits" ? "host" : "device"] as const);
  const options = webgpuOptions(Object.fromEntries(places), folder);
  return await openSession(forWebgpu(model, half), { folder, threads: 1, options });
}
