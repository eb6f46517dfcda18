import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { finish, type Finished, makeWorkplace, removeWorkplace, run, runError, runJson, start } from "./blockllm.ts";

interface Plan {
  models: { name: string; bytes: number; own_bytes: number; kv_bytes_per_token: number }[];
  segments: { id: number; models: string[]; bytes: number }[];
  bytes: number;
  device: {
    name: string;
    left_out: Record<string, string>;
    devices?: { name: string; segments: number[]; bytes: number; free_bytes: number }[];
  };
  memory: { weights: number; context_lengths: Record<string, number> };
}

let folder = "";
beforeAll(async () => {
  folder = makeWorkplace({ keep: true });
  const paths = ["desk/optimum/base", "desk/optimum/hr", "exports/optimum/bloom", "exports/dyn/granitemoe-18"];
  await runJson(folder, "split", ...paths.map((path) => `fixtures/${path}`));
});
afterAll(() => removeWorkplace(folder));

describe("plan --device webgpu", () => {
  it("says what would run there and what would not, and counts the device's memory", async () => {
    const host = await runJson<Plan>(folder, "plan", "--models", "base,hr", "--memory", "1GB");
    const plan = await runJson<Plan>(folder, "plan", "--device", "webgpu", "--memory", "1GB");
    expect(plan.device).toEqual({
      name: "webgpu",
      left_out: {
        bloom: "its attention has ALiBi slopes",
        "granitemoe-18": "it is not taken apart into blocks",
      },
    });
    expect(plan.models.map(({ name }) => name)).toEqual(["base", "hr"]);
    expect(plan.segments.map(({ models }) => models)).toEqual(host.segments.map(({ models }) => models));
    expect(plan.bytes).toBe(host.bytes);
    // Tables are on the device, and every session keeps what its runs took.
    expect(plan.memory.weights).toBeGreaterThan(host.memory.weights);
    expect(Object.keys(plan.memory.context_lengths)).toEqual(["base", "hr"]);
    expect(host).not.toHaveProperty("device");
  });

  it("prints it for people", async () => {
    const { code, stdout } = await run(folder, "plan", "--device", "webgpu:fp16");
    expect(code).toBe(0);
    expect(stdout).toMatch(/^device +webgpu:fp16$/m);
    expect(stdout).toMatch(/^bloom left out +its attention has ALiBi slopes$/m);
  });

  it("refuses what does not fit, and says by how much", async () => {
    const refused = await runError(folder, "plan", "--device", "webgpu", "--memory", "1MB");
    expect(refused).toMatchObject({ exit: 2, code: "memory_exceeded" });
    expect(refused.message).toMatch(/^base needs \d+ bytes .* too little; 1 more of 2 models do not fit either$/);
    expect(await runError(folder, "plan", "--device", "gpu")).toMatchObject({ exit: 2, code: "usage" });
  });
});

describe("plan --device cuda", () => {
  it("spreads segments over what the driver lists", async () => {
    const { code, stdout } = await planWithDriver(["0, NVIDIA A, 1000", "1, NVIDIA B, 2"]);
    expect(code).toBe(0);
    const { device, segments } = JSON.parse(stdout) as Plan;
    expect(device.name).toBe("cuda");
    expect(device.devices!.map(({ name }) => name)).toEqual(["cuda:0 NVIDIA A", "cuda:1 NVIDIA B"]);
    expect(device.devices!.map((each) => each.free_bytes)).toEqual([1000 * 2 ** 20, 2 * 2 ** 20]);
    expect(device.devices!.flatMap((each) => each.segments).toSorted((a, b) => a - b)).toEqual(
      segments.map(({ id }) => id),
    );
    const bytesOf = (all: { bytes: number }[]): number => all.reduce((sum, { bytes }) => sum + bytes, 0);
    expect(bytesOf(device.devices!), "sessions take more than their weights").toBeGreaterThan(bytesOf(segments));
    expect(device.devices![1]!.bytes).toBeLessThanOrEqual(0.9 * 2 * 2 ** 20);
    expect(Object.keys(device.left_out)).toEqual(["granitemoe-18"]);
  });

  it("refuses devices that are too small or not there", async () => {
    const small = await planWithDriver(["0, NVIDIA A, 1"]);
    expect(small.code).toBe(2);
    expect(small.stderr).toMatch(/^error memory_exceeded: The segments take \d+ bytes .* \d+ too many$/m);
    const none = await planWithDriver([]);
    expect(none.code).toBe(2);
    expect(none.stderr).toContain("error device_unavailable: NVIDIA's driver lists no device to plan for");
  });
});

/** With an `nvidia-smi` on the path that lists these devices. */
async function planWithDriver(lines: string[]): Promise<Finished> {
  const programs = join(folder, "programs");
  mkdirSync(programs, { recursive: true });
  writeFileSync(join(programs, "nvidia-smi"), ["#!/bin/sh", ...lines.map((line) => `echo "${line}"`), ""].join("\n"));
  chmodSync(join(programs, "nvidia-smi"), 0o755);
  const variables = { PATH: `${programs}${delimiter}${process.env["PATH"]}` };
  return await finish(start(folder, ["--json", "--quiet", "plan", "--device", "cuda"], variables));
}
