import { type Clock, systemClock } from "../support/clock.ts";
import { BlockllmError } from "../support/errors.ts";
import { QueueMeter } from "./queue-meter.ts";
import type { EngineRequest } from "./request.ts";

/**
 * Who waits for a first step, counted where requests come in: a flood is refused before it costs anything. Places are
 * limited in all and by tenant; a refusal says when a place should be free, as fast as the queue has been moving.
 */
export class WaitingRoom {
  readonly #places: number;
  readonly #clock: Clock;
  readonly #tenantOf = new Map<number, string>();
  readonly #tenants = new Map<string, QueueMeter>();
  #all: QueueMeter;

  constructor(places: number, clock: Clock = systemClock) {
    this.#places = places;
    this.#clock = clock;
    this.#all = new QueueMeter(clock);
  }

  /** @throws `queue_full` with the seconds after which to try again */
  enter(id: number, { tenant, policy }: Pick<EngineRequest, "tenant" | "policy">): void {
    const own = tenant === undefined ? undefined : this.#tenants.get(tenant);
    const free = this.#places - this.#all.waiting;
    if (free <= 0) throw queueFull(`all ${this.#places} places of the queue are taken`, this.#all);
    const waiting = own?.waiting ?? 0;
    const limit = policy?.queued ?? null;
    if (limit !== null && waiting >= limit)
      throw queueFull(`${waiting} requests of this tenant are waiting, the limit is ${limit}`, own ?? this.#all);
    // Dynamic thresholds (Choudhury & Hahne 1998): whoever waits in numbers leaves places for those who come.
    if (tenant !== undefined && limit === null && waiting >= free)
      throw queueFull(
        `${waiting} requests of this tenant are waiting, as many as the queue has places left`,
        own ?? this.#all,
      );
    this.#tenantOf.set(id, tenant ?? "");
    this.#all.enter();
    const meter = this.#tenants.get(tenant ?? "") ?? new QueueMeter(this.#clock);
    this.#tenants.set(tenant ?? "", meter);
    meter.enter();
  }

  /** It runs, or it has ended; ids that do not wait are ignored. */
  leave(id: number): void {
    const tenant = this.#tenantOf.get(id);
    if (tenant === undefined) return;
    this.#tenantOf.delete(id);
    this.#all.leave();
    const meter = this.#tenants.get(tenant)!;
    meter.leave();
    if (meter.waiting === 0) this.#tenants.delete(tenant);
  }
}

function queueFull(message: string, meter: QueueMeter): BlockllmError {
  const retryAfterSeconds = meter.secondsToNextPlace();
  return new BlockllmError("queue_full", message, {
    hint: `Try again in ${retryAfterSeconds} s.`,
    retryAfterSeconds,
  });
}
