import { availableParallelism, cpus, loadavg, totalmem } from "node:os";
import type { Machine } from "./report.ts";

export function describeMachine(): Machine {
  return {
    cpu: cpus()[0]?.model ?? "unknown",
    threads: availableParallelism(),
    memory_gib: Math.round(totalmem() / 2 ** 30),
    node: process.version,
    load_average: Number(loadavg()[0]!.toFixed(2)),
  };
}
