import { describe, expect, test } from "vitest";
import {
  type DeviceChoice,
  type DeviceFacts,
  rankDevices,
  startOnFirst,
} from "../../src/engine/device/choose-device.ts";
import { type Device, parseDevice } from "../../src/engine/device/device.ts";
import { parseCudaDevices } from "../../src/engine/device/find-devices.ts";
import type { DeviceTest } from "../../src/engine/device/test-device.ts";

/** A machine whose devices have these speeds, or fail for these reasons. */
function machine(results: Partial<Record<Device, number | string>>, more: Partial<DeviceFacts> = {}): DeviceFacts {
  const tested = async (device: Device): Promise<DeviceTest> => {
    const result = results[device] ?? "it is not there";
    return typeof result === "number"
      ? { device, passed: true, speedup: result }
      : { device, passed: false, reason: result };
  };
  return {
    mayHaveGpu: () => true,
    hasCudaLibraries: () => "cuda:0" in results,
    cudaIndices: () => [0],
    graphicsMemory: () => null,
    test: tested,
    ...more,
  };
}

const devicesOf = (choices: DeviceChoice[]): string[] => choices.map(({ devices }) => devices.join());

describe("auto", () => {
  test("ranks what passes, the fastest first and the CPU last", async () => {
    const [best, ...others] = await rankDevices("auto", machine({ webgpu: 4, "cuda:0": 9 }));
    expect(best).toEqual({ devices: ["cuda:0"], reason: "it multiplies 9.0 times as fast as the CPU", warnings: [] });
    expect(devicesOf(others)).toEqual(["webgpu", "cpu"]);
    expect(devicesOf(await rankDevices("auto", machine({ webgpu: 4, "cuda:0": 2 })))[0]).toBe("webgpu");
  });

  test("stays on the CPU where a device is slower, and says so", async () => {
    const choices = await rankDevices("auto", machine({ webgpu: 0.25 }));
    expect(choices).toEqual([{ devices: ["cpu"], reason: "webgpu has 0.25 times the speed of cpu", warnings: [] }]);
  });

  test("warns of a device that fails and takes the next", async () => {
    const [choice] = await rankDevices("auto", machine({ webgpu: "its driver ended with SIGSEGV", "cuda:0": 3 }));
    expect(choice).toMatchObject({
      devices: ["cuda:0"],
      warnings: ["webgpu is left out: its driver ended with SIGSEGV"],
    });
  });

  test("tests every CUDA device, also where the driver lists none", async () => {
    const two = machine({ "cuda:0": "out of memory", "cuda:1": 5 }, { cudaIndices: () => [0, 1] });
    expect(devicesOf(await rankDevices("auto", two))).toEqual(["cuda:1", "cpu"]);
    const unlisted = machine({ "cuda:0": 5 }, { cudaIndices: () => [] });
    expect(devicesOf(await rankDevices("auto", unlisted))).toEqual(["cuda:0", "cpu"]);
    expect(devicesOf(await rankDevices("cuda", unlisted))).toEqual(["cuda:0"]);
  });

  test("goes on to the next best where one fails to start, and says why", async () => {
    const choices = await rankDevices("auto", machine({ webgpu: 4, "cuda:0": 9 }));
    const startUnless = async (failing: string[]) =>
      await startOnFirst(choices, async ({ devices }) => {
        if (failing.includes(devices[0])) throw new Error(`no memory on ${devices[0]}`);
        return devices[0];
      });
    expect(await startUnless([])).toMatchObject({ started: "cuda:0", choice: { warnings: [] } });
    expect(await startUnless(["cuda:0"])).toMatchObject({
      started: "webgpu",
      choice: { warnings: ["cuda:0 is left out: no memory on cuda:0"] },
    });
    expect(await startUnless(["cuda:0", "webgpu"])).toMatchObject({
      started: "cpu",
      choice: {
        reason: "the others failed to start",
        warnings: ["cuda:0 is left out: no memory on cuda:0", "webgpu is left out: no memory on webgpu"],
      },
    });
    await expect(startUnless(["cuda:0", "webgpu", "cpu"])).rejects.toThrow("no memory on cpu");
  });

  test("tests nothing where there is no sign of a device", async () => {
    const facts = machine({}, { mayHaveGpu: () => false, test: () => Promise.reject(new Error("was tested")) });
    expect(devicesOf(await rankDevices("auto", facts))).toEqual(["cpu"]);
  });
});

describe("a device by its name", () => {
  test("is refused with its reason where it fails", async () => {
    await expect(rankDevices("webgpu", machine({ webgpu: "No supported adapters" }))).rejects.toMatchObject({
      code: "device_unavailable",
      message: "webgpu cannot be used: No supported adapters",
    });
  });

  test("is refused with the line that installs what is missing", async () => {
    const refused = rankDevices("cuda", machine({}, { hasCudaLibraries: () => false }));
    await expect(refused).rejects.toMatchObject({ code: "device_unavailable" });
    await expect(refused).rejects.toThrow("CUDA libraries");
  });

  test("is refused where the driver lists others only", async () => {
    const facts = machine({ "cuda:0": 2, "cuda:1": 2 }, { cudaIndices: () => [0, 1] });
    await expect(rankDevices("cuda:3", facts)).rejects.toMatchObject({
      code: "device_unavailable",
      message: "cuda:3 cannot be used: NVIDIA's driver lists cuda:0, cuda:1 only",
    });
  });

  test("can be every CUDA device", async () => {
    const facts = machine({ "cuda:0": 2, "cuda:1": 2 }, { cudaIndices: () => [0, 1] });
    expect(devicesOf(await rankDevices("cuda", facts))).toEqual(["cuda:0,cuda:1"]);
  });

  test("brings its own memory where a driver says what it has, if it keeps weights, keys and values", async () => {
    const memory = { budgetBytes: 7e9, freeBytes: 8e9 };
    const facts = machine({ webgpu: 4, "cuda:0": 2 }, { graphicsMemory: () => memory });
    expect(await rankDevices("webgpu", facts)).toMatchObject([{ memory }]);
    expect((await rankDevices("auto", facts)).map((choice) => choice.memory)).toEqual([memory, undefined, undefined]);
    for (const wish of ["cpu", "cuda:0"] as const)
      expect((await rankDevices(wish, facts))[0]).not.toHaveProperty("memory");
    expect((await rankDevices("webgpu", machine({ webgpu: 4 })))[0]).not.toHaveProperty("memory");
  });

  test("is written as --device takes it", () => {
    const names = ["auto", "cpu", "webgpu", "webgpu:fp16", "cuda", "cuda:2"];
    expect(names.map(parseDevice)).toEqual(names);
    expect(() => parseDevice("gpu")).toThrow('--device is "gpu"');
    expect(() => parseDevice("cuda:x")).toThrow('--device is "cuda:x"');
  });
});

test("NVIDIA's driver lists devices one a line", () => {
  expect(parseCudaDevices("0, NVIDIA H100 PCIe, 80994\n1, NVIDIA A2, 15000\n\n")).toEqual([
    { index: 0, name: "NVIDIA H100 PCIe", freeBytes: 80994 * 2 ** 20 },
    { index: 1, name: "NVIDIA A2", freeBytes: 15000 * 2 ** 20 },
  ]);
});
