import type { Segment } from "../../chain/plan.ts";
import type { BlockSource } from "../../chain/resolve-chain.ts";
import { isWebgpu } from "../device/device.ts";
import type { EngineConfig } from "../engine-config.ts";
import { halfUse } from "../execute/webgpu/for-webgpu.ts";
import { segmentBytes } from "./segment-bytes.ts";
import { deviceSessionBytes, laneBytes, runBytes } from "./session-bytes.ts";

/** Says what the session of a segment will take where the configuration has it run, without making one. */
export type PlannedBytes = (segment: Segment) => Promise<number>;

/** No device is opened: one for WebGPU counts as one that does not compute with float16, unless that is asked for. */
export function plannedBytes(source: BlockSource, { device, maxBatchTokens, lanes }: EngineConfig): PlannedBytes {
  if (isWebgpu(device)) {
    const half = halfUse(device, false);
    return (segment) => Promise.resolve(deviceSessionBytes(segment, half));
  }
  const onHost = device === "cpu";
  return async (segment) =>
    (await segmentBytes(segment, source)) + (onHost ? laneBytes(lanes) : runBytes(segment, maxBatchTokens));
}
