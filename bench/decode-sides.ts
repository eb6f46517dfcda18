import { SMOLLM2_135M } from "./model-graph.ts";

/** What both sides of bench/decode.ts are given. */
export interface DecodeInput {
  /** Of the whole models. */
  folders: string[];
  /** Names of the same models in `repository`. */
  models: string[];
  repository: string;
  sequencesEach: number;
  context: number;
  /** Tokens every sequence generates before measuring starts. */
  warmUp: number;
  steps: number;
  threads: number;
  /** In how many the engine may share out its sequences; whole models have none. */
  lanes: number;
}

export interface DecodeResult {
  tokensPerSecond: number;
  /** Time of all threads per token; unlike the speed, hardly moved by what else the machine does. */
  processorMilliseconds: number;
  /** Proportional set size at the end of the measured steps. */
  bytes: number;
  /** What the first sequence generated, for comparison. */
  tokens: number[];
}

/** The prompt of one sequence, the same on both sides. */
export function promptOf(sequence: number, length: number): number[] {
  return Array.from({ length }, (_, at) => (sequence * 7919 + at * 104_729 + 11) % SMOLLM2_135M.vocabulary);
}

export function processorMilliseconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}
