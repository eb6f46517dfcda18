import { defineConfig } from "vitest/config";

// Apart from the rest, so that no run by folder picks it up.
export default defineConfig({
  test: { pool: "forks", environment: "node", include: ["test/store/large-model.test.ts"] },
});
