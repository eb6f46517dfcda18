/** A histogram that was counted elsewhere. Buckets are cumulative, ascending, without the one at infinity. */
export interface CountedHistogram {
  buckets: readonly { le: number; count: number }[];
  count: number;
  /** Of all values. */
  sum: number;
}

/** https://prometheus.io/docs/instrumenting/exposition_formats; prom-client can only show what it counted itself. */
export function formatHistogram(name: string, help: string, { buckets, count, sum }: CountedHistogram): string {
  return [
    `# HELP ${name} ${help}`,
    `# TYPE ${name} histogram`,
    ...buckets.map((bucket) => `${name}_bucket{le="${bucket.le}"} ${bucket.count}`),
    `${name}_bucket{le="+Inf"} ${count}`,
    `${name}_sum ${sum}`,
    `${name}_count ${count}`,
    "",
  ].join("\n");
}
