import type { EngineClient } from "../engine/engine-client.ts";
import { BlockllmError } from "../support/errors.ts";
import { processMemory, processorSeconds } from "./process-costs.ts";
import type { Question } from "./questions.ts";
import { Refused, type Answer, type Holdings, type NewTokens, type Target, type TargetModel } from "./target.ts";

/** An engine whose worker is a thread of this process. */
export class EngineTarget implements Target {
  readonly models: readonly TargetModel[];
  readonly #engine: EngineClient;

  constructor(engine: EngineClient) {
    this.#engine = engine;
    this.models = engine.models.map(({ name, contextLength, vocabSize }) => ({
      name,
      contextLength,
      vocabulary: vocabSize,
    }));
  }

  async ask(question: Question, onTokens: (tokens: NewTokens) => void, signal: AbortSignal): Promise<Answer> {
    const request = this.#submit(question);
    signal.addEventListener("abort", () => request.cancel(), { once: true });
    for await (const event of request.events) {
      if (event.type === "token-delta") {
        onTokens({ count: 1, ids: [event.token] });
        continue;
      }
      if (event.error) throw refusedOr(event.error);
      signal.throwIfAborted();
      const { reason, promptTokens, completionTokens } = event;
      return { reason, promptTokens, completionTokens };
    }
    throw new Error(`the engine left question ${question.index} without an end`);
  }

  memoryBytes(): number | null {
    return processMemory(process.pid);
  }

  processorSeconds(): number | null {
    return processorSeconds(process.pid);
  }

  async holdings(): Promise<Holdings> {
    const { queued, running, kvBytes } = await this.#engine.stats();
    return { queued, running, kvBytes };
  }

  async close(): Promise<void> {
    await this.#engine.close();
  }

  #submit({ model, prompt, maxTokens, tenant, temperature, seed }: Question): ReturnType<EngineClient["submit"]> {
    try {
      return this.#engine.submit({
        model,
        tokens: prompt,
        maxTokens,
        sampling: { temperature, seed },
        tenant: `tenant-${tenant}`,
        ignoreEnd: true,
      });
    } catch (error) {
      throw refusedOr(error);
    }
  }
}

function refusedOr(error: unknown): unknown {
  if (!(error instanceof BlockllmError) || error.code !== "queue_full") return error;
  return new Refused(error.message, error.retryAfterSeconds ?? null);
}
