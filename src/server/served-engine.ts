import type { EngineClient, RunningRequest } from "../engine/engine-client.ts";

/** What the server needs of an engine. */
export type Engine = Pick<EngineClient, "models" | "submit" | "stats" | "forgetPrefixes">;

export type EngineHandle = RunningRequest;
