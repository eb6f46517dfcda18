import { InferenceSession } from "onnxruntime-node";

export const LOST = "Failed to download data from buffer. wgpu::MapAsyncStatus value: 4, message: [Device] is lost.";
export const AWAY = "Failed to get a WebGPU device: vkCreateDevice failed with VK_ERROR_INITIALIZATION_FAILED";
export const FULL = "WebGPU validation failed. [Invalid Buffer (unlabeled)] is invalid due to a previous error.";

export interface LosingDevice {
  /** From now on every run over it fails, until the last session over it is released. */
  lose(): void;
  /** None can be opened until it is not `away` any more. */
  away: boolean;
  /** So many of the next runs, or sessions that are made, find no memory. */
  full: number;
  /** Called before every run over it. */
  beforeRun: () => void;
}

/**
 * From now on in this thread WebGPU devices can be lost as ONNX Runtime 1.30 over Dawn loses them. It was compared with a
 * Vulkan driver that answers VK_ERROR_DEVICE_LOST, VK_ERROR_INITIALIZATION_FAILED and VK_ERROR_OUT_OF_DEVICE_MEMORY.
 */
export function makeDeviceLosable(): LosingDevice {
  const device: LosingDevice = { lose: () => (lost = true), away: false, full: 0, beforeRun: () => {} };
  const over = new WeakSet<InferenceSession>();
  let open = 0;
  let lost = false;
  const type = InferenceSession as unknown as {
    create: (...given: unknown[]) => Promise<InferenceSession>;
    prototype: {
      run: (this: InferenceSession, ...given: unknown[]) => Promise<unknown>;
      release: (this: InferenceSession) => Promise<void>;
    };
  };
  const { create } = type;
  const { run, release } = type.prototype;

  const isFull = (): boolean => device.full > 0 && device.full-- > 0;
  const createOver = async (...given: unknown[]): Promise<InferenceSession> => {
    const options = given.at(-1) as InferenceSession.SessionOptions | undefined;
    if (!options?.executionProviders?.includes("webgpu")) return await create.apply(type, given);
    if (device.away) throw new Error(AWAY);
    if (lost) throw new Error(LOST);
    if (isFull()) throw new Error(FULL);
    const session = await create.apply(type, given);
    over.add(session);
    open++;
    return session;
  };
  Object.assign(type, { create: createOver });
  Object.assign(type.prototype, {
    async run(this: InferenceSession, ...given: unknown[]) {
      if (over.has(this)) {
        device.beforeRun();
        if (lost) throw new Error(LOST);
        if (isFull()) throw new Error(FULL);
      }
      return await run.apply(this, given);
    },
    async release(this: InferenceSession) {
      if (over.delete(this) && --open === 0) lost = false;
      await release.call(this);
    },
  });
  return device;
}
