import { afterEach, expect, test } from "vitest";
import { reloadOnHangup } from "../../src/cli/reload.ts";

let stop: () => Promise<void> = async () => {};
afterEach(async () => stop());

function recorded() {
  const lines: string[] = [];
  return {
    lines,
    info: (message: string) => void lines.push(message),
    error: (message: string, error: unknown) => void lines.push(`${message}: ${(error as Error).message}`),
  };
}

test("reads everything again in order; what fails is said, and what comes behind it still runs", async () => {
  const log = recorded();
  const fail = async (): Promise<string> => {
    throw new Error("broken");
  };
  stop = reloadOnHangup(
    [
      { what: "tenants", reload: fail },
      { what: "models", reload: async () => "3 models" },
    ],
    log,
  );
  process.emit("SIGHUP");
  await expect.poll(() => log.lines).toHaveLength(2);
  expect(log.lines).toEqual([
    "tenants could not be read again and stay as they were: broken",
    "models read again: 3 models",
  ]);
});

test("signals during a round lead to one more, never to two at once", async () => {
  const log = recorded();
  let running = 0;
  const reload = async (): Promise<string> => {
    expect(++running).toBe(1);
    await new Promise((resolve) => setImmediate(resolve));
    running--;
    return "done";
  };
  stop = reloadOnHangup([{ what: "tenants", reload }], log);
  for (let signal = 0; signal < 3; signal++) process.emit("SIGHUP");
  await stop();
  expect(log.lines).toHaveLength(1);
  stop = reloadOnHangup([{ what: "tenants", reload }], log);
  process.emit("SIGHUP");
  process.emit("SIGHUP");
  await expect.poll(() => log.lines).toHaveLength(3);
});
