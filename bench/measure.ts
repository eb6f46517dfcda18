import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { availableParallelism, cpus, totalmem } from "node:os";

/** Runs a script of this folder in a process of its own; its last line of output is the result as JSON. */
export async function runAlone<Result>(
  script: string,
  input: object,
  variables: Record<string, string> = {},
): Promise<Result> {
  const path = new URL(script, import.meta.url).pathname;
  const child = spawn(process.execPath, [...process.execArgv, path, JSON.stringify(input)], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, ...variables },
  });
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text));
  const code = await new Promise<number | null>((resolve, reject) => child.on("error", reject).on("close", resolve));
  if (code !== 0) throw new Error(`${script} ended with code ${code}: ${output}`);
  return JSON.parse(output.trimEnd().split("\n").at(-1)!) as Result;
}

/** The environment in which bin/blockllm.js starts Node: the allocator's settings. */
export function settingsOfTheCommand(): Record<string, string> {
  const [firstLine] = readFileSync(new URL("../bin/blockllm.js", import.meta.url), "utf8").split("\n");
  return Object.fromEntries(firstLine!.split(" ").flatMap((word) => (word.includes("=") ? [word.split("=")] : [])));
}

/** The input given by `runAlone`. */
export function ownInput(): unknown {
  return JSON.parse(process.argv[2] ?? "{}");
}

/** Proportional set size of this process, all threads: memory it has for itself, and its part of what it shares. */
export function proportionalSetBytes(): number {
  const match = /^Pss:\s+(\d+) kB/m.exec(readFileSync("/proc/self/smaps_rollup", "utf8"));
  return Number(match![1]) * 1024;
}

export interface Spread {
  median: number;
  least: number;
  most: number;
}

export function spreadOf(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = (sorted.length - 1) / 2;
  const median = (sorted[Math.floor(middle)]! + sorted[Math.ceil(middle)]!) / 2;
  return { median, least: sorted[0]!, most: sorted.at(-1)! };
}

export function showSpread({ median, least, most }: Spread, digits: number): string {
  return `${median.toFixed(digits)} (${least.toFixed(digits)}–${most.toFixed(digits)})`;
}

export function machine(): { cpu: string; threads: number; memoryGB: number; node: string } {
  return {
    cpu: cpus()[0]?.model ?? "unknown",
    threads: availableParallelism(),
    memoryGB: Math.round(totalmem() / 2 ** 30),
    node: process.version,
  };
}
