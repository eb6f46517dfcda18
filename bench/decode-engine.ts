/** The engine in a process of its own, all sequences at once: one side of bench/decode.ts. */
import { startEngine, type EngineClient } from "../src/engine/engine-client.ts";
import { processorMilliseconds, promptOf, type DecodeInput, type DecodeResult } from "./decode-sides.ts";
import { ownInput, proportionalSetBytes } from "./measure.ts";

const input = ownInput() as DecodeInput;
/**
 * Prompts do not all end in one step: sequences that began early go on while the last ones are measured, and have been given
 * a token in each step that read the prompts of others. A step reads 512 tokens, less what decodes.
 */
const spareTokens = 24 + Math.ceil((input.models.length * input.sequencesEach * input.context) / 256);
// Drafts would be measured as speed of the batch; bench/speculate.ts measures them.
const engine = await startEngine({
  repository: input.repository,
  models: input.models,
  threads: input.threads,
  speculate: "off",
  solo: "auto",
  lanes: input.lanes,
});
const total = input.warmUp + input.steps;
const running = input.models.flatMap((model, index) =>
  Array.from({ length: input.sequencesEach }, (_, place) =>
    generate(engine, model, promptOf(index * input.sequencesEach + place, input.context)),
  ),
);
await Promise.all(running.map(({ enough }) => enough));
const bytes = proportionalSetBytes();
await engine.close();

const started = latest(running.map(({ moments }) => moments[input.warmUp - 1]!));
const ended = latest(running.map(({ moments }) => moments[total - 1]!));
if (running.some(({ moments }) => moments.length >= total + spareTokens && moments.at(-1)!.at < ended.at))
  throw new Error("a sequence ended while others were measured");
const measured = running.flatMap(({ moments }) => moments).filter(({ at }) => at > started.at && at <= ended.at).length;
const result: DecodeResult = {
  tokensPerSecond: measured / ((ended.at - started.at) / 1000),
  processorMilliseconds: (ended.processor - started.processor) / measured,
  bytes,
  tokens: running[0]!.tokens.slice(0, total),
};
console.log(JSON.stringify(result));

/** When a token came, and what all threads had spent until then; both in milliseconds. */
interface Moment {
  at: number;
  processor: number;
}

interface Running {
  moments: Moment[];
  tokens: number[];
  /** As many tokens as are measured have come. */
  enough: Promise<void>;
}

function generate(client: EngineClient, model: string, prompt: number[]): Running {
  const moments: Moment[] = [];
  const generatedTokens: number[] = [];
  const request = client.submit({
    model,
    tokens: prompt,
    maxTokens: total + spareTokens,
    sampling: { temperature: 0 },
    tenant: model,
    ignoreEnd: true,
  });
  const enough = new Promise<void>((resolve, reject) => {
    const follow = async (): Promise<void> => {
      for await (const event of request.events) {
        if (event.type === "request-end" && event.reason === "error") throw event.error;
        if (event.type !== "token-delta") continue;
        moments.push({ at: performance.now(), processor: processorMilliseconds() });
        generatedTokens.push(event.token);
        if (moments.length === total) resolve();
      }
    };
    follow().catch(reject);
  });
  return { moments, tokens: generatedTokens, enough };
}

function latest(moments: Moment[]): Moment {
  return moments.reduce((a, b) => (b.at > a.at ? b : a));
}
