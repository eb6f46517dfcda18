import { defineConfig } from "vitest/config";

// Apart from the rest, so that no run by folder picks the first one up; the others run on a few fixtures otherwise.
export default defineConfig({
  test: {
    pool: "forks",
    environment: "node",
    env: { ORT_DISABLE_TELEMETRY: "1", BLOCKLLM_TEST_EVERY_FIXTURE: "1" },
    include: [
      "test/store/large-model.test.ts",
      "test/engine/{isolation,prefix-cache,speculation,webgpu-desk,webgpu-soak}.test.ts",
      "test/engine/lanes/lanes.test.ts",
    ],
    testTimeout: 600_000,
    hookTimeout: 600_000,
  },
});
