import { BlockllmError, type ErrorCode } from "../support/errors.ts";
import type { EngineConfig } from "./engine-config.ts";
import type { ModelDigests } from "./require-documents.ts";
import type { EngineEvent, EngineRequest, ServedModel } from "./request.ts";
import type { PrefixOwner } from "./kv/prefix-keys.ts";
import type { EngineStats } from "./stats.ts";

/** What the engine's worker is started with. */
export interface WorkerStart {
  repository: string;
  models: string[] | "all";
  config: EngineConfig;
}

export type ToWorker =
  | { type: "submit"; id: number; request: EngineRequest }
  | { type: "cancel"; id: number }
  | { type: "stats"; id: number }
  | { type: "forget"; id: number; owner: PrefixOwner }
  | { type: "change"; id: number; models: string[] | "all"; documents?: ModelDigests; graceSeconds: number }
  /** Requests that follow are for the models that were `prepared`, those before are for the old ones. */
  | { type: "commit" }
  | { type: "close" };

export type FromWorker =
  | { type: "ready"; models: ServedModel[] }
  | { type: "failed"; error: PlainError }
  /** All events of one step, and the requests that it took out of the queue. */
  | { type: "events"; events: [id: number, event: PlainEvent][]; started: number[] }
  | { type: "stats"; id: number; stats: EngineStats }
  | { type: "forgot"; id: number; bytes: number }
  | { type: "prepared"; id: number; models: ServedModel[] }
  | { type: "unchanged"; id: number; error: PlainError };

/** Errors lose their class between threads. */
export interface PlainError {
  code: ErrorCode;
  message: string;
  hint: string | undefined;
  retryAfterSeconds: number | undefined;
}

type EndEvent = EngineEvent & { type: "request-end" };
type PlainEvent = Exclude<EngineEvent, EndEvent> | (Omit<EndEvent, "error"> & { error: PlainError | null });

export function packError({ code, message, hint, retryAfterSeconds }: BlockllmError): PlainError {
  return { code, message, hint, retryAfterSeconds };
}

export function unpackError({ code, message, hint, retryAfterSeconds }: PlainError): BlockllmError {
  return new BlockllmError(code, message, {
    ...(hint === undefined ? {} : { hint }),
    ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
  });
}

export function packEvent(event: EngineEvent): PlainEvent {
  return event.type === "request-end" ? { ...event, error: event.error ? packError(event.error) : null } : event;
}

export function unpackEvent(event: PlainEvent): EngineEvent {
  if (event.type !== "request-end") return event;
  const { error, ...end } = event;
  return error ? { ...end, error: unpackError(error) } : end;
}
