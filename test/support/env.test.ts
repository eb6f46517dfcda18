import { expect, it } from "vitest";
import { readEnvironment } from "../../src/support/env.ts";

it("has defaults for everything", () => {
  expect(readEnvironment({})).toEqual({
    repository: "./blocks",
    debug: false,
    continuousIntegration: false,
    noColor: false,
  });
});

it("reads every variable", () => {
  expect(readEnvironment({ BLOCKLLM_REPO: "/srv/blocks", BLOCKLLM_DEBUG: "1", CI: "true", NO_COLOR: "1" })).toEqual({
    repository: "/srv/blocks",
    debug: true,
    continuousIntegration: true,
    noColor: true,
  });
});

it("refuses a value it does not understand instead of ignoring it", () => {
  expect(() => readEnvironment({ BLOCKLLM_DEBUG: "yes" })).toThrow('BLOCKLLM_DEBUG is "yes"; it can be 0 or 1');
});
