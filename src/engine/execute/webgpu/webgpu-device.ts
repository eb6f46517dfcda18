import type { CoreSpec } from "../../../blocks/block.ts";
import { coreKey, DeviceCores } from "./device-cores.ts";
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
  #keptBytes = 0;

  /** Does it compute with float16 numbers? */
  readonly computesHalf: boolean;

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

  /** A session that takes so much was released. */
  keeps(bytes: number): void {
    this.#keptBytes += bytes;
  }

  /** Makes cores ready and compares each kind with the host once. Error: device_unavailable where it computes wrong. */
  async openCores(cores: readonly CoreSpec[]): Promise<void> {
    for (const core of cores) {
      const key = coreKey(core);
      if (this.#chunkRows.has(key)) continue;
      await this.#cores.open(core);
      this.#chunkRows.set(key, await chunkRows(core, this.#cores, this.#tensors));
      this.#opened.set(key, core);
    }
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

  async isAlive(): Promise<boolean> {
    try {
      const probe = await this.#tensors.zeros([1]);
      const [zero] = await this.#tensors.download(probe);
      probe.dispose();
      return zero === 0;
    } catch {
      return false;
    }
  }

  /** All sessions over it must be gone: ONNX Runtime takes a new device, and gives memory back, when the last one is. */
  async reopen(): Promise<void> {
    await this.close().catch(() => {});
    this.#keptBytes = 0;
    this.#tensors = await DeviceTensors.open();
    this.#cores = new DeviceCores(this.#tensors);
    for (const core of this.#opened.values()) await this.#cores.open(core);
  }

  async close(): Promise<void> {
    await this.#cores.close();
    await this.#tensors.close();
  }
}
