import type { Durations } from "../engine/durations.ts";

/**
 * A histogram that was counted elsewhere: prom-client can only show what it counted itself.
 * https://prometheus.io/docs/instrumenting/exposition_formats
 */
export function formatHistogram(name: string, help: string, { buckets, count, seconds }: Durations): string {
  return [
    `# HELP ${name} ${help}`,
    `# TYPE ${name} histogram`,
    ...buckets.map((bucket) => `${name}_bucket{le="${bucket.le}"} ${bucket.count}`),
    `${name}_bucket{le="+Inf"} ${count}`,
    `${name}_sum ${seconds}`,
    `${name}_count ${count}`,
    "",
  ].join("\n");
}
