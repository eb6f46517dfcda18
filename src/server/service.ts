import type { Clock } from "../support/clock.ts";
import type { Log } from "../support/log.ts";
import type { TextModel } from "../text/text-model.ts";
import type { Engine } from "./served-engine.ts";
import type { ServerLimits } from "./limits.ts";
import type { Metrics } from "./metrics.ts";
import type { RunningRequests } from "./running-requests.ts";
import type { TenantDirectory } from "./tenants/tenant-directory.ts";
import type { TokenRates } from "./tenants/token-rates.ts";

/** Everything that handlers share. */
export interface Service {
  engine: Engine;
  /** By model name; a model without a tokenizer is not in it. */
  texts: ReadonlyMap<string, TextModel>;
  /** One after the other: from what is served to what shall be. @throws `usage` where that cannot be changed */
  changeModels: (choose: (served: readonly string[]) => readonly string[] | "all") => Promise<void>;
  tenants: TenantDirectory;
  rates: TokenRates;
  /** Origins of web pages that may use the server; "*": all. */
  cors: readonly string[];
  limits: ServerLimits;
  metrics: Metrics;
  running: RunningRequests;
  log: Log;
  clock: Clock;
  /** Seconds since 1970. */
  now: () => number;
  /** The part of a response's id behind `chatcmpl-` and `cmpl-`. */
  newId: () => string;
}
