import type { Holdings } from "./target.ts";

/** From the Prometheus metrics of a blockllm server; null of any other. */
export async function readHoldings(base: string): Promise<Holdings | null> {
  try {
    const text = await (await fetch(`${base}/metrics`)).text();
    const gauge = (name: string): number | null => {
      const match = new RegExp(`^${name} (\\S+)$`, "m").exec(text);
      return match ? Number(match[1]) : null;
    };
    const queued = gauge("blockllm_queued_requests");
    const running = gauge("blockllm_running_sequences");
    const kvBytes = gauge("blockllm_kv_bytes");
    return queued === null || running === null || kvBytes === null ? null : { queued, running, kvBytes };
  } catch {
    return null;
  }
}
