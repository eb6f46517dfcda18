import type { EngineRequest } from "../../src/engine/request.ts";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { startGeneration } from "../../src/server/generation.ts";
import type { ChoiceEvent, GenerationObserver } from "../../src/server/generation.ts";
import { BlockllmError } from "../../src/support/errors.ts";
import { delta, desk, ending, ScriptedEngine } from "./scripted-engine.ts";

const NOBODY: GenerationObserver = { onStart: () => {}, onToken: () => {}, onEnd: () => {} };
const TOKENS = fc.array(fc.nat(515), { maxLength: 20 });

test("every choice ends exactly once, and its text is its tokens' text up to the stop string", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(TOKENS, { minLength: 1, maxLength: 4 }),
      fc.array(fc.constantFrom(" ", "e", "he", ". "), { maxLength: 2 }),
      async (answers, stops) => {
        const ended: string[] = [];
        const observer = { ...NOBODY, onEnd: (_: EngineRequest, { reason }: { reason: string }) => ended.push(reason) };
        const { events, engine } = start(answers, stops, observer);
        const texts = answers.map(() => "");
        const ids = answers.map((): number[] => []);
        const ends = answers.map(() => 0);
        for await (const event of events) {
          expect(ends[event.index]).toBe(0);
          texts[event.index] += event.text;
          ids[event.index]!.push(...event.tokens.map((token) => token.id));
          if (event.type === "choice-end") ends[event.index]!++;
        }
        expect(ends).toEqual(answers.map(() => 1));
        expect(ended).toHaveLength(answers.length);
        for (const [index, answer] of answers.entries()) {
          const whole = desk.tokenizer.decode(answer);
          expect(whole.startsWith(texts[index]!)).toBe(true);
          expect(stops.some((stop) => texts[index]!.includes(stop))).toBe(false);
          expect(texts[index] === whole || stops.some((stop) => whole.includes(stop))).toBe(true);
          expect(answer.slice(0, ids[index]!.length)).toEqual(ids[index]);
        }
        expect(engine.cancelled).toBeLessThanOrEqual(answers.length);
      },
    ),
    { numRuns: 100 },
  );
});

test("a submit that is refused takes back those before it", () => {
  const engine = new ScriptedEngine(() => [delta(40)]);
  const submit = engine.submit.bind(engine);
  engine.submit = (request) => {
    if (engine.requests.length === 2) throw new BlockllmError("queue_full", "full");
    return submit(request);
  };
  expect(() => startGeneration(engine, plans(3, []), NOBODY)).toThrow("full");
  expect(engine.cancelled).toBe(2);
});

test("an engine that breaks off without an end is an error, not a silence", async () => {
  const engine = new ScriptedEngine(() => []);
  engine.submit = () => ({ events: (async function* () {})(), cancel: () => {} });
  const { events, done } = startGeneration(engine, plans(1, []), NOBODY);
  await expect(events.next()).rejects.toThrow("without an end");
  await done;
});

test("a reader who leaves early ends the work", async () => {
  const { events, done, engine } = start([[40, 41, 42], [40]], [], NOBODY, { endless: true });
  for await (const event of events) if (event.text !== "") break;
  await done;
  expect(engine.cancelled).toBe(2);
});

test("token offsets are places in the text", async () => {
  const tokens = desk.tokenizer.encode("eva 🦆 holds", { plain: true });
  const { events } = start([tokens], [], NOBODY);
  const seen: ChoiceEvent[] = [];
  for await (const event of events) seen.push(event);
  const text = seen.map((event) => event.text).join("");
  const offsets = seen.flatMap((event) => event.tokens.map((token) => token.offset));
  expect(text).toBe("eva 🦆 holds");
  expect(offsets).toEqual(offsets.toSorted((a, b) => a - b));
  expect(offsets[0]).toBe(0);
  expect(text.slice(offsets.at(-1))).toBe(" holds");
});

function start(answers: number[][], stops: string[], observer: GenerationObserver, { endless = false } = {}) {
  let next = 0;
  const engine = new ScriptedEngine(() => {
    const answer = answers[next++]!;
    return [...answer.map((token) => delta(token)), ...(endless ? [] : [ending("stop", answer.length)])];
  });
  return { ...startGeneration(engine, plans(answers.length, stops), observer), engine };
}

function plans(count: number, stops: string[]) {
  return Array.from({ length: count }, (_, index) => ({
    index,
    text: desk,
    stops,
    request: { model: "support", tokens: [1], maxTokens: 20 },
  }));
}
