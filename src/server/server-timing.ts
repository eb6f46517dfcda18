import type { Waited } from "../engine/waits.ts";

/** Of one answer. */
export interface AnswerTiming {
  waited: Waited | null;
  /** From the hand-over to the engine; null: not known yet, or there was none. */
  firstTokenSeconds: number | null;
}

/**
 * Where a request was while it did not run, as a `Server-Timing` header (https://www.w3.org/TR/server-timing), in
 * milliseconds: of several answers, the longest of each. `totalSeconds` is left out where the answer is still going on.
 */
export function serverTiming(answers: readonly AnswerTiming[], totalSeconds: number | null): Record<string, string> {
  const waits = answers.flatMap(({ waited }) => (waited === null ? [] : [waited]));
  const firsts = answers.flatMap(({ firstTokenSeconds }) => firstTokenSeconds ?? []);
  const preemptions = Math.max(0, ...waits.map((waited) => waited.preemptions));
  const entries = [
    entry(
      "queue",
      waits.map(({ queueSeconds }) => queueSeconds),
    ),
    entry(
      "load",
      waits.map(({ loadSeconds }) => loadSeconds),
    ),
    entry(
      "aside",
      waits.map(({ asideSeconds }) => asideSeconds),
      `${preemptions} times`,
    ),
    entry("first", firsts),
    entry("total", totalSeconds === null ? [] : [totalSeconds]),
  ].filter((one) => one !== null);
  return entries.length === 0 ? {} : { "server-timing": entries.join(", ") };
}

function entry(name: string, seconds: readonly number[], description?: string): string | null {
  if (seconds.length === 0) return null;
  const milliseconds = Math.round(Math.max(...seconds) * 1e4) / 10;
  return `${name};dur=${milliseconds}${description === undefined ? "" : `;desc="${description}"`}`;
}
