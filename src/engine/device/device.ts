import { BlockllmError } from "../../support/errors.ts";

/** Where a plan runs: "cpu", "webgpu", "cuda:0". */
export type Device = "cpu" | "webgpu" | `cuda:${number}`;

/** What a user may ask for. "cuda": every CUDA device there is. */
export type DeviceWish = Device | "auto" | "cuda";

/** `auto`, `cpu`, `webgpu`, `cuda`, `cuda:1`. Error: usage. */
export function parseDevice(text: string): DeviceWish {
  if (text === "auto" || text === "cpu" || text === "webgpu" || text === "cuda") return text;
  const [, index] = /^cuda:(\d{1,2})$/.exec(text) ?? [];
  if (index !== undefined) return `cuda:${Number(index)}`;
  throw new BlockllmError("usage", `--device is "${text}"; it must be auto, cpu, webgpu, cuda or cuda:<number>`);
}
