import { once } from "node:events";
import type { Worker } from "node:worker_threads";
import { Channel } from "../support/channel.ts";
import { BlockllmError } from "../support/errors.ts";
import { reasonOf } from "../support/reason.ts";
import { scriptBeside } from "../support/script-beside.ts";
import { startWorker } from "../support/start-worker.ts";
import { checkRequest } from "./check-request.ts";
import { type DeviceChoice, rankDevices, startOnFirst } from "./device/choose-device.ts";
import type { DeviceWish } from "./device/device.ts";
import { engineConfig, type EngineConfig } from "./engine-config.ts";
import { requireMemory } from "./memory/require-memory.ts";
import { unpackError, unpackEvent, type FromWorker, type ToWorker, type WorkerStart } from "./engine-messages.ts";
import type { PrefixOwner } from "./kv/prefix-keys.ts";
import type { EngineEvent, EngineRequest, ServedModel } from "./request.ts";
import type { ModelDigests } from "./require-documents.ts";
import type { EngineStats } from "./stats.ts";
import { WaitingRoom } from "./waiting-room.ts";

/** What may be set besides what runs where. */
export type EngineKnobs = Partial<Omit<EngineConfig, "device" | "deviceStrict">>;

export interface EngineOptions extends EngineKnobs {
  /** Default: cpu. */
  device?: DeviceWish;
  /** The repository's folder. */
  repository: string;
  models: string[] | "all";
  signal?: AbortSignal;
}

export interface RunningRequest {
  /** Leaving the loop early cancels the request. */
  events: AsyncIterable<EngineEvent>;
  cancel(): void;
}

/**
 * Starts the engine in a thread of its own and waits until its models are loaded. A device that fails under `auto` gives
 * way to the next best. Errors: usage, repository_not_found, model_not_found, device_unavailable, memory_exceeded, and what
 * loading a model throws.
 */
export async function startEngine(options: EngineOptions): Promise<EngineClient> {
  const { device = "cpu", repository, models, signal, ...knobs } = options;
  engineConfig(knobs);
  const startOn = async (choice: DeviceChoice): Promise<EngineClient> => {
    const config = engineConfig({ ...(choice.memory && { memoryBytes: choice.memory.budgetBytes }), ...knobs });
    requireMemory(config, choice);
    const placed = { device: choice.devices.join(","), deviceStrict: device !== "auto" };
    const start: WorkerStart = { repository, models, config: { ...config, ...placed } };
    return await startEngineThread(scriptBeside(import.meta.url, "engine-worker"), start, signal);
  };
  const { started, choice } = await startOnFirst(await rankDevices(device), startOn, signal);
  started.device = choice;
  return started;
}

/**
 * The same with a worker script of one's own that calls serveInThread; `start` becomes its workerData. Throws what its
 * loading throws.
 */
export async function startEngineThread(
  script: URL,
  start: { config: EngineConfig },
  signal?: AbortSignal,
): Promise<EngineClient> {
  signal?.throwIfAborted();
  const worker = startWorker(script, start);
  // Not terminated: a thread that ends inside of ONNX Runtime takes the process along.
  const abort = (): void => worker.postMessage({ type: "close" } satisfies ToWorker, []);
  signal?.addEventListener("abort", abort, { once: true });
  try {
    const served = await firstAnswer(worker);
    // It was ready when it was told to close.
    if (signal?.aborted) await once(worker, "exit");
    signal?.throwIfAborted();
    return new EngineClient(worker, served, start.config);
  } catch (error) {
    await worker.terminate();
    signal?.throwIfAborted();
    throw error;
  } finally {
    signal?.removeEventListener("abort", abort);
  }
}

/** As long as a server that shuts down gives its last answers. */
const DEFAULT_GRACE_SECONDS = 30;

interface Waiter<Value> {
  resolve: (value: Value) => void;
  reject: (error: Error) => void;
}

/** The main thread's end of a running engine. */
export class EngineClient {
  #models: readonly ServedModel[];
  readonly #worker: Worker;
  readonly #waiting: WaitingRoom;
  readonly #requests = new Map<
    number,
    { channel: Channel<EngineEvent>; promptTokens: number; completionTokens: number }
  >();
  readonly #statsWaiters = new Map<number, Waiter<EngineStats>>();
  readonly #forgetWaiters = new Map<number, Waiter<number>>();
  readonly #changeWaiters = new Map<number, Waiter<readonly ServedModel[]>>();
  readonly #exited: Promise<void>;
  #nextId = 1;
  #refusal: BlockllmError | null = null;
  #gone: BlockllmError | null = null;
  /** Where it runs, and why there. */
  device: DeviceChoice = { devices: ["cpu"], reason: "asked for", warnings: [] };
  #drained: (() => void)[] = [];

  constructor(worker: Worker, models: readonly ServedModel[], config: EngineConfig) {
    this.#models = models;
    this.#worker = worker;
    this.#waiting = new WaitingRoom(config.maxQueue);
    worker.on("message", (message: FromWorker) => this.#receive(message));
    worker.on("error", (error) => this.#fail(reasonOf(error)));
    this.#exited = new Promise((resolve) => {
      worker.on("exit", (code) => {
        this.#fail(`its thread ended with code ${code}`);
        resolve();
      });
    });
  }

  /** What is served; other lists at other times. */
  get models(): readonly ServedModel[] {
    return this.#models;
  }

  /**
   * Serves other models from the repository as it now is, without a request being dropped: what both lists have in common
   * stays loaded, and requests of a model that is taken away or replaced run on with what they began with, for
   * `graceSeconds` at most. In the turn of the event loop in which this resolves, `models` and what `submit` asks are the
   * new ones. Errors: as startEngine, and model_changed where the repository has others than `documents` says; then
   * everything stays as it is.
   */
  changeModels(
    models: string[] | "all",
    { graceSeconds = DEFAULT_GRACE_SECONDS, documents }: { graceSeconds?: number; documents?: ModelDigests } = {},
  ): Promise<readonly ServedModel[]> {
    const refusal = this.#gone ?? this.#refusal;
    if (refusal) return Promise.reject(refusal);
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#changeWaiters.set(id, { resolve, reject });
      this.#post({ type: "change", id, models, graceSeconds, ...(documents && { documents }) });
    });
  }

  /** Throws at once what checkRequest throws, queue_full, server_draining, or engine_failed after a crash. */
  submit(request: EngineRequest): RunningRequest {
    const refusal = this.#gone ?? this.#refusal;
    if (refusal) throw refusal;
    checkRequest(request, this.#models);
    const id = this.#nextId++;
    this.#waiting.enter(id, request);
    const cancel = (): void => this.#post({ type: "cancel", id });
    const channel = new Channel<EngineEvent>(cancel);
    this.#requests.set(id, { channel, promptTokens: request.tokens.length, completionTokens: 0 });
    this.#post({ type: "submit", id, request });
    return { events: channel, cancel };
  }

  stats(): Promise<EngineStats> {
    if (this.#gone) return Promise.reject(this.#gone);
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#statsWaiters.set(id, { resolve, reject });
      this.#post({ type: "stats", id });
    });
  }

  /** Gives up the prompts that are kept of one tenant or group; how many bytes that were. */
  forgetPrefixes(owner: PrefixOwner): Promise<number> {
    if (this.#gone) return Promise.reject(this.#gone);
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#forgetWaiters.set(id, { resolve, reject });
      this.#post({ type: "forget", id, owner });
    });
  }

  /** Refuses new requests with server_draining; resolves when those accepted have ended. */
  async drain(): Promise<void> {
    this.#refusal ??= new BlockllmError("server_draining", "The engine takes no new requests: it is shutting down");
    if (this.#requests.size > 0) await new Promise<void>((resolve) => this.#drained.push(resolve));
  }

  /** Ends what still runs with reason `cancelled` and waits until the thread is gone. */
  async close(): Promise<void> {
    this.#refusal ??= new BlockllmError("server_draining", "The engine is closed");
    this.#post({ type: "close" });
    await this.#exited;
  }

  #receive(message: FromWorker): void {
    switch (message.type) {
      case "events":
        for (const id of message.started) this.#waiting.leave(id);
        for (const [id, event] of message.events) this.#deliver(id, unpackEvent(event));
        return;
      case "stats":
        this.#statsWaiters.get(message.id)?.resolve(message.stats);
        this.#statsWaiters.delete(message.id);
        return;
      case "forgot":
        this.#forgetWaiters.get(message.id)?.resolve(message.bytes);
        this.#forgetWaiters.delete(message.id);
        return;
      case "prepared":
        this.#models = message.models;
        this.#post({ type: "commit" });
        this.#changeWaiters.get(message.id)?.resolve(message.models);
        this.#changeWaiters.delete(message.id);
        return;
      case "unchanged":
        this.#changeWaiters.get(message.id)?.reject(unpackError(message.error));
        this.#changeWaiters.delete(message.id);
        return;
      case "failed":
        return this.#fail(message.error.message);
      case "ready":
        return;
    }
  }

  #deliver(id: number, event: EngineEvent): void {
    const request = this.#requests.get(id);
    if (!request) return;
    request.channel.push(event);
    if (event.type === "token-delta") request.completionTokens++;
    else this.#finish(id, request.channel);
  }

  #finish(id: number, channel: Channel<EngineEvent>): void {
    channel.close();
    this.#requests.delete(id);
    this.#waiting.leave(id);
    if (this.#requests.size === 0) for (const resolve of this.#drained.splice(0)) resolve();
  }

  /** The thread is gone: every open request ends, and every later one is told why. */
  #fail(reason: string): void {
    const error = new BlockllmError("engine_failed", `The engine stopped: ${reason}`, { hint: "restart the server" });
    this.#gone ??= error;
    for (const [id, { channel, promptTokens, completionTokens }] of this.#requests) {
      channel.push({ type: "request-end", reason: "error", error, promptTokens, completionTokens });
      this.#finish(id, channel);
    }
    for (const waiters of [this.#statsWaiters, this.#forgetWaiters, this.#changeWaiters]) {
      for (const { reject } of waiters.values()) reject(error);
      waiters.clear();
    }
  }

  #post(message: ToWorker): void {
    this.#worker.postMessage(message, []);
  }
}

function firstAnswer(worker: Worker): Promise<ServedModel[]> {
  return new Promise((resolve, reject) => {
    worker.once("error", reject);
    worker.once("exit", (code) =>
      reject(new BlockllmError("engine_failed", `The engine's thread ended with code ${code} before it was ready`)),
    );
    worker.once("message", (message: FromWorker) => {
      if (message.type === "ready") resolve(message.models);
      else if (message.type === "failed") reject(unpackError(message.error));
      else reject(new Error(`The engine's first message was ${message.type}`));
    });
  });
}
