import type { CoreSpec } from "../../../blocks/block.ts";
import { BlockllmError } from "../../../support/errors.ts";
import { coreKey, DeviceCores } from "./device-cores.ts";
import { deviceLost, outOfDeviceMemory, saysDeviceLost } from "./device-errors.ts";
import type { DeviceSession } from "./device-session.ts";
import { DeviceTensors } from "./device-tensors.ts";
import { computesHalf } from "./half-floats.ts";
import { chunkRows, isRowInvariantOn, shapeKey } from "./measure-device.ts";

/** The device as executors and sessions see it, with what was measured of it. It can be opened anew when it was lost. */
export class WebgpuDevice {
  #tensors: DeviceTensors;
  #cores: DeviceCores;
  readonly #chunkRows = new Map<string, number>();
  readonly #opened = new Map<string, CoreSpec>();
  readonly #rowInvariant = new Map<string, boolean>();
  readonly #sessions = new Set<DeviceSession>();
  #keptBytes = 0;
  #lost = false;
  #losses = 0;
  #turn: Promise<void> = Promise.resolve();

  /** Does it compute with float16 numbers? */
  readonly computesHalf: boolean;
  /** Called before all that is on it goes: for tensors, which must be disposed before the last session is released. */
  onLeave: () => void = () => {};
  /** Gives back what nobody uses, where memory ended; false: it cannot, or not now. */
  makeRoom: () => Promise<boolean> = () => Promise.resolve(false);

  private constructor(tensors: DeviceTensors, half: boolean) {
    this.#tensors = tensors;
    this.computesHalf = half;
    this.#cores = new DeviceCores(tensors);
  }

  static async open(): Promise<WebgpuDevice> {
    return new WebgpuDevice(await DeviceTensors.open(), await computesHalf());
  }

  get tensors(): DeviceTensors {
    return this.#tensors;
  }

  get cores(): DeviceCores {
    return this.#cores;
  }

  /**
   * What released sessions still take: ONNX Runtime 1.30 keeps the weights of a session until the last session over the
   * device is released.
   */
  get keptBytes(): number {
    return this.#keptBytes;
  }

  get losses(): number {
    return this.#losses;
  }

  /** The session's weights are on it until `leaves`, however often it is opened anew. */
  joins(session: DeviceSession): void {
    this.#sessions.add(session);
  }

  leaves(session: DeviceSession): void {
    if (this.#sessions.delete(session)) this.#keptBytes += session.bytes;
  }

  /** Makes cores ready and compares each kind with the host once. Error: device_unavailable where it computes wrong. */
  async openCores(cores: readonly CoreSpec[]): Promise<void> {
    await this.#inTurn(async () => {
      for (const core of cores) {
        const key = coreKey(core);
        if (this.#chunkRows.has(key)) continue;
        await this.#cores.open(core);
        this.#chunkRows.set(key, await chunkRows(core, this.#cores, this.#tensors));
        this.#opened.set(key, core);
      }
    });
  }

  /** Query rows of a prompt that one call of the core may take. The same for the device's life: bits depend on it. */
  chunkRows(core: CoreSpec): number {
    return this.#chunkRows.get(coreKey(core))!;
  }

  /** Measured once for all segments of equal shapes. */
  async isRowInvariant(session: DeviceSession): Promise<boolean> {
    const key = shapeKey(session.segment);
    const known = this.#rowInvariant.get(key) ?? (await isRowInvariantOn(session, this.#tensors));
    this.#rowInvariant.set(key, known);
    return known;
  }

  /** What an error says of the device: device_lost, which `ensureOpen` mends, memory_exceeded, or nothing. */
  async diagnose(error: unknown): Promise<BlockllmError | null> {
    if (error instanceof BlockllmError) return error;
    if (!this.#lost && (saysDeviceLost(error) || !(await this.#isAlive()))) {
      this.#lost = true;
      this.#losses++;
    }
    return this.#lost ? deviceLost(error) : outOfDeviceMemory(error);
  }

  /** Opens it anew if it was lost. Error: device_lost; then the next call tries again. */
  async ensureOpen(): Promise<void> {
    if (this.#lost) await this.reopen();
  }

  /**
   * With all sessions that are on it: ONNX Runtime takes a new device, and gives memory back, when the last session over
   * the old one is released. Error: device_lost.
   */
  async reopen(): Promise<void> {
    await this.#inTurn(async () => this.#reopen());
  }

  async close(): Promise<void> {
    for (const session of this.#sessions) await session.unload();
    await this.#closeTools();
  }

  /** Models are made ready while others run: what they open must not be on a device that is being left. */
  async #inTurn(work: () => Promise<void>): Promise<void> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => {});
    await done;
  }

  async #reopen(): Promise<void> {
    this.#lost = true;
    this.onLeave();
    for (const session of this.#sessions) await session.release();
    await this.#closeTools();
    this.#keptBytes = 0;
    try {
      this.#tensors = await DeviceTensors.open();
      this.#cores = new DeviceCores(this.#tensors);
      for (const core of this.#opened.values()) await this.#cores.open(core);
      for (const session of this.#sessions) await session.open();
    } catch (error) {
      throw deviceLost(error);
    }
    this.#lost = false;
  }

  async #closeTools(): Promise<void> {
    await this.#cores.close();
    await this.#tensors.close();
  }

  async #isAlive(): Promise<boolean> {
    try {
      const probe = await this.#tensors.zeros([1]);
      const [zero] = await this.#tensors.download(probe);
      probe.dispose();
      return zero === 0;
    } catch {
      return false;
    }
  }
}
