import { afterEach, expect, test } from "vitest";
import { type Reloadable, reloadOnHangup, startReloading } from "../../src/cli/reload.ts";

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

function listen(reloadables: readonly Reloadable[], log: ReturnType<typeof recorded>): () => Promise<void> {
  const reloading = startReloading(reloadables, log);
  const stopListening = reloadOnHangup(reloadables, reloading);
  return async () => {
    stopListening();
    await reloading.stop();
  };
}

test("reads everything again in order; what fails is said, and what comes behind it still runs", async () => {
  const log = recorded();
  const fail = async (): Promise<string> => {
    throw new Error("broken");
  };
  stop = listen(
    [
      { what: "tenants", file: "t", reload: fail },
      { what: "models", file: "m", reload: async () => "3 models" },
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
  stop = listen([{ what: "tenants", file: "t", reload }], log);
  for (let signal = 0; signal < 3; signal++) process.emit("SIGHUP");
  await stop();
  expect(log.lines).toHaveLength(1);
  stop = listen([{ what: "tenants", file: "t", reload }], log);
  process.emit("SIGHUP");
  process.emit("SIGHUP");
  await expect.poll(() => log.lines).toHaveLength(3);
});

test("only what is asked for is read again, and nothing after the end", async () => {
  const log = recorded();
  const one: Reloadable = { what: "models", file: "m", reload: async () => "1 model" };
  const other: Reloadable = { what: "tenants", file: "t", reload: async () => "1 tenant" };
  const reloading = startReloading([one, other], log);
  reloading.ask([other]);
  await expect.poll(() => log.lines).toEqual(["tenants read again: 1 tenant"]);
  await reloading.stop();
  reloading.ask([one]);
  expect(log.lines).toHaveLength(1);
});
