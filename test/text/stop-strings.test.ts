import * as fc from "fast-check";
import { expect, test } from "vitest";
import { StopStrings } from "../../src/text/stop-strings.ts";

const SHORT = fc.string({ unit: fc.constantFrom("a", "b", "c"), maxLength: 30 });
const STOPS = fc.array(fc.string({ unit: fc.constantFrom("a", "b", "c"), minLength: 1, maxLength: 4 }), {
  maxLength: 4,
});

test("however the text is split, the same is given out, and never a stop string", () => {
  fc.assert(
    fc.property(SHORT, STOPS, fc.array(fc.nat(30)), (text, stops, cuts) => {
      const given = run(split(text, cuts), stops);
      expect(given.text).toBe(run(Array.from(text), stops).text);
      expect(given.text).toBe(cutByHand(text, stops));
      for (const stop of stops) expect(given.text).not.toContain(stop);
    }),
    { numRuns: 1000 },
  );
});

test("only what may become a stop string is held back", () => {
  fc.assert(
    fc.property(SHORT, STOPS, (text, stops) => {
      const matcher = new StopStrings(stops);
      let given = "";
      for (const [index, character] of Array.from(text).entries()) {
        given += matcher.push(character);
        if (matcher.stopped) return;
        const held = text.slice(given.length, index + 1);
        expect(held === "" || stops.some((stop) => stop.startsWith(held))).toBe(true);
      }
    }),
    { numRuns: 1000 },
  );
});

test("the stop string that ends first wins, and of those that end together the longest", () => {
  expect(run(["xab", "cd"], ["abcd", "bc"])).toEqual({ text: "xa", stopped: true });
  expect(run(["xabc"], ["bc", "abc"])).toEqual({ text: "x", stopped: true });
});

test("what was held back comes at the end when no stop string came", () => {
  const matcher = new StopStrings(["###"]);
  expect(matcher.push("a##")).toBe("a");
  expect(matcher.push("b#")).toBe("##b");
  expect(matcher.finish()).toBe("#");
  expect(matcher.stopped).toBe(false);
});

test("after a stop nothing more is given out", () => {
  const matcher = new StopStrings(["."]);
  expect(matcher.push("one. two")).toBe("one");
  expect(matcher.push("three")).toBe("");
  expect(matcher.finish()).toBe("");
});

test("an empty stop string is refused", () => {
  expect(() => new StopStrings([""])).toThrow("an empty stop string");
});

function run(pieces: string[], stops: string[]): { text: string; stopped: boolean } {
  const matcher = new StopStrings(stops);
  const text = pieces.map((piece) => matcher.push(piece)).join("") + matcher.finish();
  return { text, stopped: matcher.stopped };
}

function split(text: string, cuts: number[]): string[] {
  const places = [...new Set([0, ...cuts.filter((cut) => cut < text.length), text.length])].toSorted((a, b) => a - b);
  return places.slice(1).map((end, index) => text.slice(places[index], end));
}

/** The definition, said plainly: the shortest beginning that ends in a stop string, without the longest such. */
function cutByHand(text: string, stops: string[]): string {
  for (let end = 1; end <= text.length; end++) {
    const ending = stops.filter((stop) => text.slice(0, end).endsWith(stop)).map((stop) => stop.length);
    if (ending.length > 0) return text.slice(0, end - Math.max(...ending));
  }
  return text;
}
