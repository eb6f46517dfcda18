import { type Clock, systemClock } from "../../support/clock.ts";
import { BlockllmError } from "../../support/errors.ts";
import type { Tenant } from "./tenant.ts";

const MINUTE_MS = 60_000;

/**
 * Tokens per minute and tenant, as buckets that fill steadily and hold a minute's worth. Prompts must fit what is there;
 * answers are paid as they come, so a bucket may be in debt, which the next request waits for.
 */
export class TokenRates {
  readonly #clock: Clock;
  readonly #buckets = new Map<string, { tokens: number; at: number }>();

  constructor(clock: Clock = systemClock) {
    this.#clock = clock;
  }

  /** @throws `rate_limit_exceeded`, saying when to come back. A prompt larger than a whole minute's worth goes when the bucket is full. */
  admit(tenant: Tenant, promptTokens: number): void {
    const limit = tenant.limits.tokensPerMinute;
    if (limit === null) return;
    const missing = Math.min(promptTokens, limit) - this.#balance(tenant.name, limit);
    if (missing > 0) {
      const retryAfterSeconds = Math.ceil((missing / limit) * (MINUTE_MS / 1000));
      throw new BlockllmError("rate_limit_exceeded", `this key has had its ${limit} tokens per minute`, {
        hint: `Try again in ${retryAfterSeconds} s.`,
        retryAfterSeconds,
      });
    }
    this.charge(tenant, promptTokens);
  }

  charge(tenant: Tenant, tokens: number): void {
    const limit = tenant.limits.tokensPerMinute;
    if (limit === null) return;
    const balance = this.#balance(tenant.name, limit);
    this.#buckets.set(tenant.name, { tokens: balance - tokens, at: this.#clock.now() });
  }

  #balance(name: string, limit: number): number {
    const bucket = this.#buckets.get(name);
    if (!bucket) return limit;
    return Math.min(limit, bucket.tokens + (Math.max(0, this.#clock.now() - bucket.at) / MINUTE_MS) * limit);
  }
}
