import { describe, expect, test } from "vitest";
import { chooseDevice, type DeviceFacts } from "../../src/engine/device/choose-device.ts";
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

describe("auto", () => {
  test("takes the fastest device that passes", async () => {
    expect(await chooseDevice("auto", machine({ webgpu: 4, "cuda:0": 9 }))).toMatchObject({ devices: ["cuda:0"] });
    expect(await chooseDevice("auto", machine({ webgpu: 4, "cuda:0": 2 }))).toMatchObject({ devices: ["webgpu"] });
  });

  test("stays on the CPU where a device is slower, and says so", async () => {
    const choice = await chooseDevice("auto", machine({ webgpu: 0.25 }));
    expect(choice).toEqual({ devices: ["cpu"], reason: "webgpu has 0.25 times the speed of cpu", warnings: [] });
  });

  test("warns of a device that fails and takes the next", async () => {
    const choice = await chooseDevice("auto", machine({ webgpu: "its driver ended with SIGSEGV", "cuda:0": 3 }));
    expect(choice).toMatchObject({
      devices: ["cuda:0"],
      warnings: ["webgpu is left out: its driver ended with SIGSEGV"],
    });
  });

  test("tests nothing where there is no sign of a device", async () => {
    const facts = machine({}, { mayHaveGpu: () => false, test: () => Promise.reject(new Error("was tested")) });
    expect((await chooseDevice("auto", facts)).devices).toEqual(["cpu"]);
  });
});

describe("a device by its name", () => {
  test("is refused with its reason where it fails", async () => {
    await expect(chooseDevice("webgpu", machine({ webgpu: "No supported adapters" }))).rejects.toMatchObject({
      code: "device_unavailable",
      message: "webgpu cannot be used: No supported adapters",
    });
  });

  test("is refused with the line that installs what is missing", async () => {
    const refused = chooseDevice("cuda", machine({}, { hasCudaLibraries: () => false }));
    await expect(refused).rejects.toMatchObject({ code: "device_unavailable" });
    await expect(refused).rejects.toThrow("CUDA libraries");
  });

  test("can be every CUDA device", async () => {
    const facts = machine({ "cuda:0": 2, "cuda:1": 2 }, { cudaIndices: () => [0, 1] });
    expect((await chooseDevice("cuda", facts)).devices).toEqual(["cuda:0", "cuda:1"]);
  });

  test("brings its own memory where a driver says what it has, if it keeps weights, keys and values", async () => {
    const facts = machine({ webgpu: 4, "cuda:0": 2 }, { graphicsMemory: () => 8e9 });
    expect(await chooseDevice("webgpu", facts)).toMatchObject({ memoryBytes: 8e9 });
    expect(await chooseDevice("auto", facts)).toMatchObject({ devices: ["webgpu"], memoryBytes: 8e9 });
    for (const wish of ["cpu", "cuda:0"] as const)
      expect(await chooseDevice(wish, facts)).not.toHaveProperty("memoryBytes");
    expect(await chooseDevice("webgpu", machine({ webgpu: 4 }))).not.toHaveProperty("memoryBytes");
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
