import type { EngineEvent, EngineRequest, ServedModel } from "../../src/engine/request.ts";
import type { PrefixOwner } from "../../src/engine/kv/prefix-keys.ts";
import type { EngineStats } from "../../src/engine/stats.ts";
import type { Engine, EngineHandle } from "../../src/server/served-engine.ts";
import { createApp } from "../../src/server/routes.ts";
import { createService } from "../../src/server/server.ts";
import type { ServerOptions } from "../../src/server/server.ts";
import type { Service } from "../../src/server/service.ts";
import { Channel } from "../../src/support/channel.ts";
import { deskText } from "../text/sample-tokenizers.ts";

/** What the engine says to one request. Without a `request-end` it waits there until the request is cancelled. */
export type Script = (request: EngineRequest) => EngineEvent[];

export const desk = deskText();

/** An engine that computes nothing: it says what the script says, one event per turn of the event loop. */
export class ScriptedEngine implements Engine {
  readonly models: ServedModel[] = [served("support"), served("legal"), { ...served("bare"), vocabSize: 300 }];
  readonly requests: EngineRequest[] = [];
  readonly forgotten: PrefixOwner[] = [];
  cancelled = 0;
  readonly #finishers: (() => void)[] = [];
  readonly #script: Script;

  constructor(script: Script) {
    this.#script = script;
  }

  submit(request: EngineRequest): EngineHandle {
    this.requests.push(request);
    const events = new Channel<EngineEvent>();
    let open = true;
    let completionTokens = 0;
    const say = (event: EngineEvent): void => {
      if (!open) return;
      if (event.type === "token-delta") completionTokens++;
      events.push(event);
      if (event.type === "request-end") {
        open = false;
        events.close();
      }
    };
    const script = this.#script(request);
    const follow = async (): Promise<void> => {
      for (const event of script) {
        await new Promise((resolve) => setImmediate(resolve));
        say(event);
      }
    };
    void follow();
    const cancel = (): void => {
      if (!open) return;
      this.cancelled++;
      say({ type: "request-end", reason: "cancelled", promptTokens: request.tokens.length, completionTokens });
    };
    this.#finishers.push(() => say(ending("length", completionTokens)));
    return { events, cancel };
  }

  /** Ends whatever still runs, with reason `length`. */
  finishAll(): void {
    for (const finish of this.#finishers) finish();
  }

  async forgetPrefixes(owner: PrefixOwner): Promise<number> {
    this.forgotten.push(owner);
    return 7;
  }

  async stats(): Promise<EngineStats> {
    return {
      queued: 1,
      running: 2,
      kvBytes: 3,
      kvBytesLimit: 4,
      stateBytes: 3,
      laneBatches: 0,
      deviceLosses: 0,
      memoryBytesLimit: 7,
      loadedSegments: 1,
      loads: { count: 1, seconds: 0.5, buckets: [{ le: 0.1, count: 0 }] },
      unloads: 0,
      swappedBytes: 0,
      swaps: 0,
      weightBytes: 5,
      segments: 6,
      promptTokens: 0,
      generatedTokens: 0,
      replayedTokens: 7,
      yields: 0,
      reusedTokens: 0,
      partlyReusedTokens: 0,
      prefixBytes: 0,
      draftedTokens: 0,
      acceptedTokens: 0,
      ended: { stop: 0, length: 0, deadline: 0, cancelled: 0, error: 0 },
      steps: { count: 2, seconds: 0.3, buckets: [{ le: 0.1, count: 1 }] },
    };
  }
}

/** The tokens of a text, each with its logprob, then an end. */
export function saying(text: string, reason: "stop" | "length" = "stop"): EngineEvent[] {
  const tokens = desk.tokenizer.encode(text, { plain: true });
  return [...tokens.map((token) => delta(token)), ending(reason, tokens.length)];
}

/** The same, but the end never comes by itself. */
export function sayingWithoutEnd(text: string): EngineEvent[] {
  return saying(text).slice(0, -1);
}

export function delta(token: number): EngineEvent {
  return {
    type: "token-delta",
    token,
    logprob: -0.5,
    topLogprobs: [
      { token, logprob: -0.5 },
      { token: 2, logprob: -2.25 },
    ],
  };
}

export function ending(reason: "stop" | "length" | "cancelled", completionTokens: number): EngineEvent {
  return { type: "request-end", reason, promptTokens: 1, completionTokens };
}

export type TestOptions = Partial<Omit<ServerOptions, "engine" | "host" | "port">>;

/** The server without a port, at one second past 1970, with ids that are all `1`. */
export function testServer(script: Script, options: TestOptions = {}) {
  const engine = new ScriptedEngine(script);
  const service: Service = {
    ...createService({
      engine,
      texts: new Map([
        ["support", desk],
        ["legal", desk],
      ]),
      ...options,
    }),
    now: () => 1,
    newId: () => "1",
  };
  const app = createApp(service);
  const post = (path: string, body: unknown, init: RequestInit = {}) =>
    app.request(path, { method: "POST", body: typeof body === "string" ? body : JSON.stringify(body), ...init });
  return { engine, service, app, post };
}

/** A response's JSON, as loosely typed as JSON is. */
// oxlint-disable-next-line typescript/no-explicit-any
export async function json(response: Response | Promise<Response>): Promise<any> {
  return (await response).json();
}

function served(name: string): ServedModel {
  return {
    name,
    contextLength: 64,
    contextBound: "model",
    vocabSize: 512,
    endTokens: [2],
    document: {
      version: 1,
      exporter: "scripted",
      family: "llama",
      precision: "fp32",
      opaque: false,
      layers: 0,
      hiddenSize: null,
      vocabSize: 512,
      contextLength: 64,
      endTokens: [2],
      beginToken: 1,
      chain: [],
      files: [],
      recognised: [],
      warnings: [],
    },
  };
}
