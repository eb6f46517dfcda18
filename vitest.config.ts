import { defineConfig } from "vitest/config";

// Native sessions live in child processes: a crash of one takes one test file with it, not the run.
const shared = {
  pool: "forks" as const,
  environment: "node" as const,
  // As blockllm sets it for itself: ONNX Runtime reports to its makers otherwise.
  env: { ORT_DISABLE_TELEMETRY: "1" },
};

export default defineConfig({
  test: {
    // vitest leaves one processor idle by itself; on two that doubles the time.
    maxWorkers: "100%",
    projects: [
      {
        test: {
          ...shared,
          name: "unit",
          include: ["test/**/*.test.ts"],
          // Minutes of reading: `npm run test:large`.
          exclude: ["test/e2e/**", "test/store/large-model.test.ts"],
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          ...shared,
          name: "e2e",
          include: ["test/e2e/**/*.test.ts"],
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
    ],
  },
});
