import { InferenceSession, type Tensor } from "onnxruntime-node";
import type { Segment } from "../../../chain/plan.ts";
import type { BlockSource } from "../../../chain/resolve-chain.ts";
import { writeModel } from "../../../onnx/write-model.ts";
import { BlockllmError } from "../../../support/errors.ts";
import { readSegment } from "../read-segment.ts";
import { cannotLoad } from "../segment-session.ts";
import { weightPlace } from "../weight-place.ts";
import { forWebgpu } from "./for-webgpu.ts";
import { webgpuOptions } from "./webgpu-options.ts";

/** One session per segment with its weights on the device. Rows stay there; only logits come down. */
export class DeviceSegments {
  readonly #sessions: InferenceSession[] = [];

  static async load(segments: readonly Segment[], source: BlockSource): Promise<DeviceSegments> {
    const loaded = new DeviceSegments();
    for (const segment of segments) {
      try {
        loaded.#sessions.push(await loadSegment(segment, source));
      } catch (cause) {
        await loaded.close();
        throw cause instanceof BlockllmError ? cause : cannotLoad(segment, cause);
      }
    }
    return loaded;
  }

  async run(segment: number, feeds: Record<string, Tensor>): Promise<Record<string, Tensor>> {
    return await this.#sessions[segment]!.run(feeds);
  }

  async close(): Promise<void> {
    for (const session of this.#sessions.splice(0)) await session.release();
  }
}

async function loadSegment(segment: Segment, source: BlockSource): Promise<InferenceSession> {
  const { model, folder } = await readSegment(segment, source);
  const places = segment.outputs.map(({ name }) => [name, name === "logits" ? "host" : "device"] as const);
  const options = webgpuOptions(Object.fromEntries(places), folder);
  return await InferenceSession.create(writeModel(forWebgpu(model), weightPlace), options);
}
