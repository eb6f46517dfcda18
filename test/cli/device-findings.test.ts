import { expect, test } from "vitest";
import { missingParts } from "../../src/cli/device-findings.ts";

test("missing CUDA libraries are told with the release that has them", () => {
  expect(missingParts(["libcublasLt.so.12", "libcudart.so.12", "libcuda.so.1"])).toEqual({
    text: "ONNX Runtime's CUDA libraries cannot be loaded without libcublasLt.so.12, libcudart.so.12, libcuda.so.1",
    fix: expect.stringMatching(/^install CUDA 12 and cuDNN 9 /),
  });
  expect(missingParts(["libcurand.so.10", "libcublas.so.13"]).fix).toMatch(/^install CUDA 13 /);
  expect(missingParts(["libcuda.so.1"]).fix).toBe("install NVIDIA's driver");
});
