import fc from "fast-check";
import { expect, test } from "vitest";
import { engineConfig } from "../../../src/engine/engine-config.ts";
import { Engine } from "../../../src/engine/engine.ts";
import type { Loadable, Needs } from "../../../src/engine/execute/executor.ts";
import { ScriptedExecutor } from "../scripted-executor.ts";
import type { EngineEvent } from "../../../src/engine/request.ts";
import { scriptedModel } from "../scripted-model.ts";

const VOCABULARY = 32;
const BYTES_PER_TOKEN = 8;
const PAGE = 16 * BYTES_PER_TOKEN;
const CONTEXT = 128;
const SEGMENT = 5 * PAGE;
/** Each model's segments, by number; a plan of other models may cut them otherwise. */
const SEGMENTS: Record<string, number[]> = { a: [0, 1, 2], b: [0, 1, 3], c: [0, 4], d: [5, 6, 7] };
const NAMES = Object.keys(SEGMENTS);
/** The largest model and one whole sequence fit, the rest of the memory is what is drawn. */
const LEAST = 3 * SEGMENT + (CONTEXT / 16) * PAGE;

interface Move {
  kind: "ask" | "change" | "cancel";
  model: number;
  prompt: number;
  maxTokens: number;
  /** Models that stay, as bits. */
  keep: number;
  /** Steps until the next move. */
  wait: number;
}

const moves: fc.Arbitrary<Move[]> = fc.array(
  fc.record({
    kind: fc.constantFrom("ask" as const, "ask" as const, "ask" as const, "change" as const, "cancel" as const),
    model: fc.nat(NAMES.length - 1),
    prompt: fc.integer({ min: 1, max: 60 }),
    maxTokens: fc.integer({ min: 1, max: 50 }),
    keep: fc.integer({ min: 1, max: 2 ** NAMES.length - 1 }),
    wait: fc.nat(6),
  }),
  { minLength: 1, maxLength: 30 },
);
const machine = fc.record({
  spare: fc.integer({ min: 0, max: 6 * SEGMENT }),
  maxSequences: fc.integer({ min: 1, max: 8 }),
  prefixCache: fc.constantFrom("on" as const, "off" as const),
  swap: fc.constantFrom("off" as const, "auto" as const, "always" as const),
  broken: fc.option(fc.nat(7), { freq: 5 }),
});

class FakeSegment implements Loadable {
  readonly key: string;
  readonly bytes = SEGMENT;
  isLoaded = false;
  readonly #broken: boolean;

  constructor(key: string, broken: boolean) {
    this.key = key;
    this.#broken = broken;
  }

  load(): Promise<void> {
    if (this.isLoaded) throw new Error(`${this.key} is loaded twice`);
    if (this.#broken) return Promise.reject(new Error(`${this.key} cannot be loaded`));
    this.isLoaded = true;
    return Promise.resolve();
  }

  unload(): Promise<void> {
    this.isLoaded = false;
    return Promise.resolve();
  }
}

function next(history: readonly number[], model: string): number {
  return history.reduce((hash, token) => (hash * 31 + token + model.charCodeAt(0)) % 1_000_003, 7) % VOCABULARY;
}

test("whatever comes, changes and leaves: memory is never exceeded or lost, every request ends once and right", async () => {
  await fc.assert(
    fc.asyncProperty(moves, machine, async (list, { spare, broken, ...knobs }) => {
      const events = new Map<number, EngineEvent[]>();
      const asked = new Map<number, { model: string; prompt: number[]; maxTokens: number }>();
      const segments = new Map<string, FakeSegment>();
      /** Segments that a model alone of the served has are named after the list, as if they were fused otherwise. */
      const needsOf = (names: readonly string[]): Needs =>
        new Map(
          names.map((name) => [
            name,
            SEGMENTS[name]!.map((number) => {
              const shared = names.filter((other) => SEGMENTS[other]!.includes(number)).length;
              const key = `${number} of ${shared}`;
              const segment = segments.get(key) ?? new FakeSegment(key, number === broken);
              segments.set(key, segment);
              return segment;
            }),
          ]),
        );
      const executor = new ScriptedExecutor(
        { vocabSize: VOCABULARY, bytesPerToken: BYTES_PER_TOKEN, next },
        needsOf(NAMES),
      );
      const models = new Map(
        NAMES.map((name) => [name, scriptedModel({ name, bytesPerToken: BYTES_PER_TOKEN, contextLength: CONTEXT })]),
      );
      let now = 0;
      const memoryBytes = LEAST + spare;
      const engine = new Engine({
        executor,
        models: [...models.values()],
        config: engineConfig({ ...knobs, prefillChunk: 16, maxBatchTokens: 48, memoryBytes, speculate: "off" }),
        clock: { now: () => now },
        report: (id, event) => events.get(id)!.push(event),
      });
      let served: readonly string[] = NAMES;
      const state = { changing: false };
      const step = async (): Promise<void> => {
        now += 500;
        await engine.step();
        engine.checkIntegrity();
        const { weightBytes, kvBytes, prefixBytes } = engine.stats();
        expect(weightBytes + kvBytes + prefixBytes).toBeLessThanOrEqual(memoryBytes);
        const loaded = [...segments.values()].filter(({ isLoaded }) => isLoaded).length;
        expect(loaded * SEGMENT).toBeLessThanOrEqual(weightBytes);
      };

      for (const [id, { kind, model, prompt, maxTokens, keep, wait }] of list.entries()) {
        const name = NAMES[model]!;
        if (kind === "ask" && served.includes(name)) {
          const tokens = Array.from({ length: prompt }, (_, at) => (at * 7 + model) % VOCABULARY);
          events.set(id, []);
          asked.set(id, { model: name, prompt: tokens, maxTokens });
          engine.submit(id, { model: name, tokens, maxTokens, tenant: name, sampling: { temperature: 0 } });
        } else if (kind === "cancel") {
          engine.cancel(id - 1);
        } else if (kind === "change" && !state.changing) {
          const wanted = NAMES.filter((_, bit) => (keep & (1 << bit)) !== 0);
          const stay = new Set([...wanted, ...served, ...engine.liveModels()]);
          const needs = needsOf(NAMES.filter((one) => stay.has(one)));
          const stretches = new Map(Array.from(models.values(), (one) => [one.key, one.stretches]));
          const commit = async (): Promise<void> => {
            executor.needs = needs;
            return Promise.resolve();
          };
          state.changing = true;
          const change = { models: wanted.map((one) => models.get(one)!), needs, commit, stretches };
          const changing = async (): Promise<void> => {
            await engine.prepare(change);
            served = wanted;
            await engine.adopt(change, 1e6);
            state.changing = false;
          };
          void changing();
        }
        for (let waited = 0; waited < wait; waited++) await step();
      }
      for (let count = 0; !engine.isIdle || state.changing; count++) {
        expect(count, "steps until everything has ended").toBeLessThan(5000);
        await step();
      }

      expect(engine.stats()).toMatchObject({ queued: 0, running: 0, kvBytes: 0, stateBytes: 0, swappedBytes: 0 });
      for (const [id, { model, prompt, maxTokens }] of asked) {
        const ends = events.get(id)!.filter(({ type }) => type === "request-end");
        expect(ends, `ends of request ${id}`).toHaveLength(1);
        const [end] = ends as (EngineEvent & { type: "request-end" })[];
        const history = [...prompt];
        for (const event of events.get(id)!)
          if (event.type === "token-delta") {
            expect(event.token).toBe(next(history, model));
            history.push(event.token);
          }
        const isBroken = broken !== null && SEGMENTS[model]!.includes(broken);
        if (end!.reason === "length") expect(end!.completionTokens).toBe(Math.min(maxTokens, CONTEXT - prompt.length));
        else
          expect([end!.reason, isBroken]).toEqual(end!.reason === "error" ? ["error", true] : ["cancelled", isBroken]);
      }
      await engine.close();
    }),
    { numRuns: 120 },
  );
});
