import { expect, it } from "vitest";
import { readEnvironment } from "../../src/support/env.ts";

it("has defaults for everything", () => {
  expect(readEnvironment({})).toEqual({
    repository: "./blocks",
    apiKey: null,
    debug: false,
    continuousIntegration: false,
    noColor: false,
    vulkanDrivers: [],
    libraryPath: [],
  });
});

it("reads every variable", () => {
  expect(
    readEnvironment({
      BLOCKLLM_REPO: "/srv/blocks",
      BLOCKLLM_API_KEY: "k",
      BLOCKLLM_DEBUG: "1",
      CI: "true",
      NO_COLOR: "1",
      VK_DRIVER_FILES: "/a.json:/b.json",
      LD_LIBRARY_PATH: "/opt/lib:",
    }),
  ).toEqual({
    repository: "/srv/blocks",
    apiKey: "k",
    debug: true,
    continuousIntegration: true,
    noColor: true,
    vulkanDrivers: ["/a.json", "/b.json"],
    libraryPath: ["/opt/lib"],
  });
});

it("refuses a value it does not understand instead of ignoring it", () => {
  expect(() => readEnvironment({ BLOCKLLM_DEBUG: "yes" })).toThrow('BLOCKLLM_DEBUG is "yes"; it can be 0 or 1');
});
