import { execFileSync } from "node:child_process";
import { setTimeout as pause } from "node:timers/promises";

import { processorMilliseconds } from "./decode-sides.ts";

/** Milliseconds of one call. */
export interface BurstTime {
  wall: number;
  processor: number;
}

/** Between bursts others get the machine: at most a tenth of its time is taken. */
const PAUSE_PER_BURST = 9;

/**
 * How long `call` takes, over about `milliseconds` of calls after a first one. `alone`: all threads of this process at
 * real-time priority meanwhile (`chrt`, which needs root), so that a busy machine gives the times of a quiet one.
 */
export async function timeBurst(
  call: () => Promise<unknown>,
  { milliseconds, alone }: { milliseconds: number; alone: boolean },
): Promise<BurstTime> {
  await call();
  if (!alone) return await timeCalls(call, milliseconds);
  try {
    setPolicy("--fifo", 1);
    await call();
    return await timeCalls(call, milliseconds);
  } finally {
    setPolicy("--other", 0);
    await pause(milliseconds * PAUSE_PER_BURST);
  }
}

async function timeCalls(call: () => Promise<unknown>, milliseconds: number): Promise<BurstTime> {
  const processor = processorMilliseconds();
  const started = performance.now();
  let calls = 0;
  do {
    await call();
    calls++;
  } while (performance.now() - started < milliseconds);
  return { wall: (performance.now() - started) / calls, processor: (processorMilliseconds() - processor) / calls };
}

function setPolicy(policy: "--fifo" | "--other", priority: number): void {
  execFileSync("chrt", ["--all-tasks", policy, "--pid", String(priority), String(process.pid)], { stdio: "ignore" });
}
