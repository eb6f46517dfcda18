import { setTimeout as sleep } from "node:timers/promises";
import { packError } from "../engine/engine-messages.ts";
import { BlockllmError } from "../support/errors.ts";
import { openTarget } from "./open-target.ts";
import { runLoad } from "./run-load.ts";
import type { FromSide, ToSide } from "./side-messages.ts";
import type { Holdings, Target } from "./target.ts";

/** The process of one side: its engine, and whoever asks it. side-process.ts starts it and disconnects to end it. */
const stopped = new AbortController();
let target: Target | null = null;

process.on("message", (message: ToSide) => void answer(message));
process.on("disconnect", () => void leave());
// A terminal sends Ctrl-C to all its processes; this one ends when the first one says so.
process.on("SIGINT", () => {});

async function answer(message: ToSide): Promise<void> {
  try {
    process.send!(message.type === "open" ? await open(message) : await run(target!, message));
  } catch (error) {
    if (stopped.signal.aborted) return;
    const known = error instanceof BlockllmError;
    if (!known) console.error(error);
    process.send!({ type: "failed", error: known ? packError(error) : null } satisfies FromSide);
  }
}

async function open({ side }: ToSide & { type: "open" }): Promise<FromSide> {
  const began = performance.now();
  target = await openTarget(side);
  return { type: "opened", models: target.models, seconds: (performance.now() - began) / 1000 };
}

async function run(opened: Target, { load, warmUp }: ToSide & { type: "run" }): Promise<FromSide> {
  if (warmUp !== null) await runLoad(opened, warmUp, stopped.signal);
  const result = await runLoad(opened, load, stopped.signal);
  return { type: "ran", result, left: await whenIdle(opened) };
}

const IDLE_LOOKS = 50;
const IDLE_INTERVAL_MS = 100;

/** What it holds once it holds nothing, or after five seconds: cancelled requests end with their step. */
async function whenIdle(opened: Target): Promise<Holdings | null> {
  let holdings = await opened.holdings();
  for (let look = 0; look < IDLE_LOOKS && holdings !== null && isHolding(holdings); look++) {
    await sleep(IDLE_INTERVAL_MS, undefined, { signal: stopped.signal });
    holdings = await opened.holdings();
  }
  return holdings;
}

function isHolding({ queued, running, kvBytes }: Holdings): boolean {
  return queued + running + kvBytes > 0;
}

async function leave(): Promise<void> {
  stopped.abort();
  await target?.close();
  process.exit(0);
}
