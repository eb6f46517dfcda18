import type { EngineRequest } from "../../engine/request.ts";
import { startGeneration } from "../generation.ts";
import type { ChoiceEvent, ChoicePlan, Generation } from "../generation.ts";
import type { Service } from "../service.ts";
import type { Caller } from "../tenants/tenant-directory.ts";
import { dataFrame, SSE_HEADERS, sseBody } from "../sse.ts";
import { serverTiming } from "../server-timing.ts";
import { within } from "../within.ts";
import { collectChoices } from "./collect-choices.ts";
import type { CollectedChoice } from "./collect-choices.ts";
import { clientGone, isOurFault, toErrorReply } from "./error-body.ts";
import { toChunks, toUsage } from "./to-chunks.ts";
import type { ChunkStream } from "./to-chunks.ts";

/** How one request's answers are written. */
export interface ResponseShape extends ChunkStream {
  stream: boolean;
  /** `object` of a response that is not streamed. */
  object: string;
  toChoice(choice: CollectedChoice): object;
}

/** Starts the answers and gives them out as they come, or all at once. `signal` aborts when the client is gone. */
export async function respond(
  service: Service,
  {
    plans,
    shape,
    caller,
    signal,
  }: { plans: readonly ChoicePlan[]; shape: ResponseShape; caller: Caller; signal: AbortSignal },
): Promise<Response> {
  // The server may have begun to close while the body was read.
  service.running.requireOpen();
  const generation = startPaid(service, plans, caller);
  service.running.add(generation);
  signal.addEventListener("abort", () => generation.cancel(), { once: true });
  // The client may have left while the prompt was read.
  if (signal.aborted) generation.cancel();
  return shape.stream ? respondInFrames(service, generation, shape) : respondAtOnce(generation, shape, signal);
}

/** Counts tokens against what the caller may have. @throws `rate_limit_exceeded`, and what startGeneration throws */
function startPaid({ engine, metrics, rates }: Service, plans: readonly ChoicePlan[], caller: Caller): Generation {
  if (caller === null) return startGeneration(engine, plans, metrics);
  const promptTokens = plans.reduce((sum, { request }) => sum + request.tokens.length, 0);
  rates.admit(caller, promptTokens);
  const onToken = (request: EngineRequest): void => {
    metrics.onToken(request);
    rates.charge(caller, 1);
  };
  try {
    return startGeneration(engine, plans, { ...metrics, onToken });
  } catch (error) {
    rates.charge(caller, -promptTokens);
    throw error;
  }
}

async function respondAtOnce({ events }: Generation, shape: ResponseShape, signal: AbortSignal): Promise<Response> {
  const began = performance.now();
  const choices = await collectChoices(events);
  if (signal.aborted) throw clientGone();
  const completionTokens = choices.reduce((sum, choice) => sum + choice.completionTokens, 0);
  const reusedTokens = choices.reduce((sum, choice) => sum + choice.reusedTokens, 0);
  const { id, created, model } = shape.head;
  const body = {
    id,
    object: shape.object,
    created,
    model,
    choices: choices.map((choice) => shape.toChoice(choice)),
    usage: toUsage({ promptTokens: shape.promptTokens, completionTokens, reusedTokens }),
  };
  return Response.json(body, { headers: serverTiming(choices, (performance.now() - began) / 1000) });
}

async function respondInFrames(service: Service, generation: Generation, shape: ResponseShape): Promise<Response> {
  const { heartbeatMs } = service.limits;
  // An error before the first token still gets its HTTP status; a slow prompt gets headers and heartbeats in time.
  const first = generation.events.next();
  // Nobody reads it when the client leaves before the stream begins; an error there must not end the process.
  first.catch(() => {});
  const began = performance.now();
  const begun = await within(first, heartbeatMs);
  const firstTokenSeconds = (performance.now() - began) / 1000;
  const timing = begun === "late" || begun.done ? [] : [{ waited: begun.value.waited, firstTokenSeconds }];
  const frames = toFrames(toChunks(startingWith(first, generation.events), shape), service);
  return new Response(sseBody(frames, { heartbeatMs, onGone: () => generation.cancel() }), {
    headers: { ...SSE_HEADERS, ...serverTiming(timing, null) },
  });
}

/** One frame per chunk, then `[DONE]`; or an error as the last frame, because the status has long been sent. */
async function* toFrames(chunks: AsyncIterable<object>, { log }: Service): AsyncGenerator<string, void> {
  try {
    for await (const chunk of chunks) yield dataFrame(chunk);
    yield dataFrame("[DONE]");
  } catch (error) {
    if (isOurFault(error)) log.error("a stream ended early", error);
    yield dataFrame(toErrorReply(error).body);
  }
}

async function* startingWith(
  first: Promise<IteratorResult<ChoiceEvent, unknown>>,
  rest: AsyncIterable<ChoiceEvent>,
): AsyncGenerator<ChoiceEvent, void> {
  const result = await first;
  if (!result.done) yield result.value;
  yield* rest;
}
