import { z } from "zod";
import { BlockllmError } from "../support/errors.ts";
import { reasonOf } from "../support/reason.ts";
import { listeningProcess } from "./listening-process.ts";
import { processMemory, processorSeconds } from "./process-costs.ts";
import { readHoldings } from "./read-holdings.ts";
import type { Question } from "./questions.ts";
import { sseData } from "./sse-data.ts";
import { Refused, type Answer, type Holdings, type NewTokens, type Target, type TargetModel } from "./target.ts";

export interface HttpOptions {
  /** `http://host:port`, with or without `/v1`. */
  url: string;
  /** Tenant after tenant uses the next one; empty: none is sent. */
  keys: readonly string[];
}

const modelList = z.object({ data: z.array(z.object({ id: z.string() })) });

const chunk = z.object({
  choices: z
    .array(
      z.object({
        text: z.string().nullish(),
        token_ids: z.array(z.int()).nullish(),
        finish_reason: z.string().nullish(),
      }),
    )
    .optional(),
  usage: z.object({ prompt_tokens: z.int(), completion_tokens: z.int() }).nullish(),
  error: z.object({ message: z.string(), code: z.union([z.string(), z.number()]).nullish() }).nullish(),
});

const errorBody = z.object({ error: z.object({ code: z.union([z.string(), z.number()]) }) });

const LOCAL_HOSTS = new Set(["127.0.0.1", "localhost", "[::1]"]);

/** A server that speaks OpenAI's completions with prompts of token ids: blockllm's, llama.cpp's, vLLM's. */
export class HttpTarget implements Target {
  readonly models: readonly TargetModel[];
  readonly #base: string;
  readonly #keys: readonly string[];
  readonly #process: number | null;

  private constructor(base: string, keys: readonly string[], models: readonly TargetModel[]) {
    this.#base = base;
    this.#keys = keys;
    this.models = models;
    const { hostname, port, protocol } = new URL(base);
    const listens = Number(port || (protocol === "https:" ? 443 : 80));
    this.#process = LOCAL_HOSTS.has(hostname) ? listeningProcess(listens) : null;
  }

  /** Errors: server_unreachable where nothing answers, or not as OpenAI's servers do. */
  static async connect({ url, keys }: HttpOptions): Promise<HttpTarget> {
    const base = url.replace(/\/+$/, "").replace(/\/v1$/, "");
    try {
      const response = await fetch(`${base}/v1/models`, { headers: authorization(keys, 0) });
      if (!response.ok) throw new Error(`HTTP status ${response.status}`);
      const { data } = modelList.parse(await response.json());
      return new HttpTarget(
        base,
        keys,
        data.map(({ id }) => ({ name: id, contextLength: null, vocabulary: null })),
      );
    } catch (cause) {
      throw new BlockllmError("server_unreachable", `${base}/v1/models does not list models: ${causeOf(cause)}`, {
        hint: "start a server there, for instance: blockllm serve",
        cause,
      });
    }
  }

  async ask(question: Question, onTokens: (tokens: NewTokens) => void, signal: AbortSignal): Promise<Answer> {
    const response = await this.#post(question, signal);
    if (response.status === 429) {
      throw new Refused(await response.text(), retryAfter(response.headers.get("retry-after"), Date.now()));
    }
    if (!response.ok || response.body === null) throw await refusal(response);
    return await readAnswer(response.body, onTokens);
  }

  async #post(question: Question, signal: AbortSignal): Promise<Response> {
    try {
      return await fetch(`${this.#base}/v1/completions`, {
        method: "POST",
        headers: { "content-type": "application/json", ...authorization(this.#keys, question.tenant) },
        body: JSON.stringify(bodyOf(question)),
        signal,
      });
    } catch (error) {
      throw new Error(causeOf(error), { cause: error });
    }
  }

  memoryBytes(): number | null {
    return this.#process === null ? null : processMemory(this.#process);
  }

  processorSeconds(): number | null {
    return this.#process === null ? null : processorSeconds(this.#process);
  }

  async holdings(): Promise<Holdings | null> {
    return await readHoldings(this.#base);
  }

  async close(): Promise<void> {}
}

/** RFC 9110, 10.2.3: seconds, or the date of when. */
export function retryAfter(header: string | null, now: number): number | null {
  if (header === null) return null;
  if (/^\d+$/.test(header.trim())) return Number(header);
  const date = Date.parse(header);
  return Number.isNaN(date) ? null : Math.max(0, (date - now) / 1000);
}

function authorization(keys: readonly string[], tenant: number): Record<string, string> {
  return keys.length === 0 ? {} : { authorization: `Bearer ${keys[tenant % keys.length]}` };
}

function bodyOf({ model, prompt, maxTokens, temperature, seed }: Question): object {
  return {
    model,
    prompt,
    max_tokens: maxTokens,
    temperature,
    seed,
    stream: true,
    stream_options: { include_usage: true },
    ignore_eos: true,
    return_token_ids: true,
  };
}

async function refusal(response: Response): Promise<Error> {
  const text = await response.text();
  const said = errorBody.safeParse(attemptJson(text));
  return new Error(`HTTP status ${response.status}: ${said.data?.error.code ?? text.slice(0, 80)}`);
}

async function readAnswer(body: AsyncIterable<Uint8Array>, onTokens: (tokens: NewTokens) => void): Promise<Answer> {
  let reason: string | null = null;
  let usage: { prompt_tokens: number; completion_tokens: number } | null = null;
  let heard = 0;
  for await (const data of sseData(body)) {
    const { choices, usage: counted, error } = chunk.parse(JSON.parse(data));
    if (error) throw new Error(`${error.code ?? "error"} in a stream: ${error.message}`);
    usage = counted ?? usage;
    const choice = choices?.[0];
    reason = choice?.finish_reason ?? reason;
    const ids = choice?.token_ids ?? null;
    const count = ids?.length ?? (choice?.text ? 1 : 0);
    if (count > 0) onTokens({ count, ids });
    heard += count;
  }
  if (reason === null) throw new Error(`a stream ended after ${heard} tokens without a reason`);
  return { reason, promptTokens: usage?.prompt_tokens ?? 0, completionTokens: usage?.completion_tokens ?? heard };
}

/** `fetch failed` says nothing; its cause says what. */
function causeOf(error: unknown): string {
  return error instanceof Error && error.cause !== undefined ? reasonOf(error.cause) : reasonOf(error);
}

function attemptJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
