import type { Priority } from "../../engine/schedule/priority.ts";

/** Who may ask: as the operator's file says it. */
export interface Tenant {
  name: string;
  keys: readonly TenantKey[];
  /** Names of the models it may use, `:latest` left out or not; null: all. */
  models: readonly string[] | null;
  /** Tenants of one group find each other's prompts cached; null: it finds only its own. */
  group: string | null;
  /** All of a better class goes first. */
  priority: Priority;
  /** Among tenants of its class it gets tokens in proportion. */
  weight: number;
  /** May read what concerns everybody: metrics. */
  operator: boolean;
  limits: TenantLimits;
}

export interface TenantKey {
  /** Of the key, in hex digits: the key itself is nowhere. */
  sha256: string;
  /** From then on it opens nothing, ms since 1970; null: it stays. */
  ends: number | null;
}

/** null: no limit beside the server's own. */
export interface TenantLimits {
  /** Answers that run at once; more of them wait. */
  running: number | null;
  /** Answers that may wait. */
  queued: number | null;
  /** Of prompts and answers together. */
  tokensPerMinute: number | null;
  /** Of one answer. */
  maxTokens: number | null;
}
