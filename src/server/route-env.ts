import type { Caller } from "./tenants/tenant-directory.ts";

/** What middleware and handlers tell each other about one request. */
export interface RouteEnv {
  Variables: {
    caller: Caller;
    /** For the client and the log. */
    requestId: string;
    /** The served model, once it is known: a label of the metrics. */
    model: string;
  };
}
