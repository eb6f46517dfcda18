import { expect, test } from "vitest";
import { BlockllmError } from "../../src/support/errors.ts";
import { createLog } from "../../src/support/log.ts";

test("lines carry time and level, errors their stack and their causes", () => {
  const lines: string[] = [];
  const log = createLog(
    (line) => lines.push(line),
    () => new Date(0),
  );
  log.info("listening");
  log.error("request failed", new Error("outer", { cause: new Error("inner") }));
  log.error("odd", "a string");
  log.error("tenants", new BlockllmError("tenants_invalid", "line 3: no name"));
  expect(lines[0]).toBe("1970-01-01T00:00:00.000Z info listening\n");
  expect(lines[1]).toMatch(/error request failed: Error: outer[\s\S]*caused by Error: inner/);
  expect(lines[2]).toBe("1970-01-01T00:00:00.000Z error odd: a string\n");
  expect(lines[3]).toBe("1970-01-01T00:00:00.000Z error tenants: tenants_invalid: line 3: no name\n");
});
