import type { EngineEvent, EngineRequest, ServedModel } from "../engine/request.ts";

/** What the server needs of an engine. */
export interface Engine {
  readonly models: readonly ServedModel[];
  /** @throws `queue_full`, `memory_exceeded`, `engine_failed`: the request has not begun. */
  submit(request: EngineRequest): EngineHandle;
  stats(): Promise<EngineStats>;
}

export interface EngineHandle {
  events: AsyncIterable<EngineEvent>;
  cancel(): void;
}

export interface EngineStats {
  queued: number;
  running: number;
  kvBytes: number;
  kvBytesLimit: number;
  weightBytes: number;
  steps: { count: number; seconds: number; buckets: { le: number; count: number }[] };
}
