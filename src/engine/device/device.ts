import { BlockllmError } from "../../support/errors.ts";

/** Where a plan runs. "webgpu:fp16": weights stored as float16 are multiplied in float16 there. */
export type Device = "cpu" | "webgpu" | "webgpu:fp16" | `cuda:${number}`;

/** What a user may ask for. "cuda": every CUDA device there is. */
export type DeviceWish = Device | "auto" | "cuda";

/** `auto`, `cpu`, `webgpu`, `webgpu:fp16`, `cuda`, `cuda:1`. Error: usage. */
export function parseDevice(text: string): DeviceWish {
  const named = (["auto", "cpu", "webgpu", "webgpu:fp16", "cuda"] as const).find((name) => name === text);
  if (named !== undefined) return named;
  const [, index] = /^cuda:(\d{1,2})$/.exec(text) ?? [];
  if (index !== undefined) return `cuda:${Number(index)}`;
  throw new BlockllmError(
    "usage",
    `--device is "${text}"; it must be auto, cpu, webgpu, webgpu:fp16, cuda or cuda:<number>`,
  );
}

export function isWebgpu(device: string): device is "webgpu" | "webgpu:fp16" {
  return device === "webgpu" || device === "webgpu:fp16";
}
