import { randomInt } from "node:crypto";
import type { EngineRequest, Sampling, ServedModel } from "../../engine/request.ts";
import { BlockllmError } from "../../support/errors.ts";
import type { TextModel } from "../../text/text-model.ts";
import type { ServerLimits } from "../limits.ts";
import type { ChoicePlan } from "../generation.ts";
import type { Tenant } from "../tenants/tenant.ts";
import type { Caller } from "../tenants/tenant-directory.ts";
import { InvalidRequest } from "./invalid-request.ts";
import type { SharedRequest } from "./wire.ts";

/** What all answers of one request have in common. */
export interface AnswerSpec {
  model: ServedModel;
  text: TextModel | null;
  caller: Caller;
  /** ms since 1970; null: it may take as long as it takes. */
  deadline: number | null;
  fields: SharedRequest;
  /** Tokens of an answer: what the request says, else what it means when it says nothing. null: as many as fit. */
  maxTokens: number | null;
  /** Alternatives per token; null: no logprobs. */
  logprobs: number | null;
}

/** Before any prompt is tokenised: a body has room for 400 000 of them. */
export function requireChoices(
  { n, prompts }: { n: number; prompts: number },
  limits: Pick<ServerLimits, "choices" | "queuePlaces">,
  caller: Caller,
): void {
  const count = prompts * n;
  const limit = mostChoices(limits, caller);
  if (count <= limit) return;
  const asked = prompts === 1 ? `"n" is ${n}` : `${prompts} prompts with "n" ${n} make ${count} answers`;
  throw new InvalidRequest(`${asked}: at most ${limit} answers per request`, "n");
}

/** What would never find places enough in an empty queue (engine/waiting-room.ts) is not told to come back for ever. */
function mostChoices({ choices, queuePlaces }: Pick<ServerLimits, "choices" | "queuePlaces">, caller: Caller): number {
  const ofTenant = caller === null ? queuePlaces : (caller.limits.queued ?? Math.ceil(queuePlaces / 2));
  return Math.min(choices, queuePlaces, ofTenant);
}

/** Every prompt n times, in the order of OpenAI's choice indices. */
export function planChoices(spec: AnswerSpec, prompts: readonly number[][]): ChoicePlan[] {
  const n = spec.fields.n ?? 1;
  const seed = spec.fields.seed ?? randomInt(2 ** 32);
  return prompts.flatMap((tokens, prompt) => {
    checkTokens(tokens, spec.model);
    const maxTokens = fitTokens(spec, tokens.length);
    return Array.from({ length: n }, (_, repeat) => {
      const index = prompt * n + repeat;
      const request: EngineRequest = {
        model: spec.model.name,
        tokens,
        maxTokens,
        sampling: { ...sampling(spec.fields), seed: deriveSeed(seed, index), logprobs: spec.logprobs },
        stopTokens: spec.fields.ignore_eos ? [] : (spec.text?.endTokens ?? []),
        ignoreEnd: spec.fields.ignore_eos ?? false,
        ...(spec.deadline === null ? {} : { deadline: spec.deadline }),
        ...(spec.caller === null ? {} : asTenant(spec.caller)),
      };
      return { index, request, text: spec.text, stops: stopStrings(spec.fields) };
    });
  });
}

/** OpenAI's defaults; 0, 1 and 0 turn top-k, top-p and min-p off. */
function sampling(fields: SharedRequest): Omit<Sampling, "seed" | "logprobs"> {
  return {
    temperature: fields.temperature ?? 1,
    topK: Math.max(fields.top_k ?? 0, 0),
    topP: fields.top_p ?? 1,
    minP: fields.min_p ?? 0,
    presencePenalty: fields.presence_penalty ?? 0,
    frequencyPenalty: fields.frequency_penalty ?? 0,
    repetitionPenalty: fields.repetition_penalty ?? 1,
  };
}

/** The first answer has the request's own seed, folded to 32 bits; the others get far-off ones (MurmurHash3's finaliser). */
export function deriveSeed(seed: number, index: number): number {
  const folded = Number(BigInt.asUintN(32, BigInt(seed)));
  if (index === 0) return folded;
  let mixed = (folded + Math.imul(index, 0x9e3779b9)) | 0;
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}

function stopStrings(fields: SharedRequest): string[] {
  if (fields.stop === null || fields.stop === undefined) return [];
  return typeof fields.stop === "string" ? [fields.stop] : fields.stop;
}

function checkTokens(tokens: readonly number[], model: ServedModel): void {
  if (tokens.length === 0) throw new InvalidRequest("the prompt has no tokens", "prompt");
  const place = tokens.findIndex((token) => token >= model.vocabSize);
  if (place === -1) return;
  throw new InvalidRequest(
    `token ${tokens[place]} at place ${place} of the prompt is not in the vocabulary of "${model.name}", which has ${model.vocabSize} tokens`,
    "prompt",
  );
}

/** What the engine must know about a tenant. */
function asTenant({ name, group, priority, weight, limits }: Tenant): Pick<EngineRequest, "tenant" | "policy"> {
  const { running, queued } = limits;
  return { tenant: name, policy: { group, priority, weight, running, queued } };
}

function fitTokens({ model, maxTokens, caller }: AnswerSpec, promptTokens: number): number {
  const limit = model.contextLength;
  const most = caller?.limits.maxTokens ?? Infinity;
  const asked = maxTokens ?? 1;
  if (asked > most) {
    throw new InvalidRequest(`the answer may have ${asked} tokens: this key is given at most ${most}`, "max_tokens");
  }
  if (promptTokens + asked <= limit) return maxTokens ?? Math.min(most, limit - promptTokens);
  throw new BlockllmError(
    "context_length_exceeded",
    `"${model.name}" holds ${limit} tokens: the prompt has ${promptTokens} and the answer may have ${asked}, ${promptTokens + asked} in all`,
    {
      hint:
        promptTokens < limit
          ? `Ask for at most ${limit - promptTokens} tokens, or shorten the prompt.`
          : "Shorten the prompt.",
    },
  );
}
