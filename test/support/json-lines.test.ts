import fc from "fast-check";
import { expect, it } from "vitest";
import { lineOfSyntaxError, lineOfValue } from "../../src/support/json-lines.ts";

it("finds the line of any value, however a text is written", () => {
  const value = fc.letrec((tie) => ({
    value: fc.oneof(
      { depthSize: "small" },
      fc.string(),
      fc.integer(),
      fc.constantFrom(null, true, false),
      fc.array(tie("value"), { maxLength: 4 }),
      fc.dictionary(fc.string(), tie("value"), { maxKeys: 4 }),
    ),
  })).value;
  fc.assert(
    fc.property(value, (whole) => {
      const text = JSON.stringify(whole, null, 1);
      for (const { path, line } of placesOf(whole)) expect(lineOfValue(text, path), path.join(".")).toBe(line);
    }),
  );
});

it("gives the line of what would hold a value that is not there", () => {
  const text = '{\n "a": [1,\n  {"b": "]"}\n ]\n}';
  expect([["a", 1, "b"], ["a", 1, "c"], ["a", 7], ["z"]].map((path) => lineOfValue(text, path))).toEqual([3, 3, 2, 1]);
});

it.each([
  ['{\n "a": 1,\n "b" 2\n}', 3],
  ['{\n "a": 1,\n "b" []\n}', 3],
  ['{\n "a": [1,\n', 2],
  ['{\n "a": [1,\n]}', 3],
  ['{\n "a": [1 2]}', 2],
  ['{"a": 1}\n\n}', 3],
  ["[\n tru]", 2],
  ["{\n a: 1}", 2],
  ['{"a":\n"unfinished', 2],
  ["", 1],
])("finds the line on which a text stops being JSON: %j", (text, line) => {
  expect(() => JSON.parse(text)).toThrow(/JSON/);
  expect(lineOfSyntaxError(text)).toBe(line);
});

/** Every value inside `whole` with its line in JSON.stringify(whole, null, 1), which gives each element its own. */
function placesOf(whole: unknown): { path: (string | number)[]; line: number }[] {
  const places: { path: (string | number)[]; line: number }[] = [];
  let line = 1;
  const visit = (value: unknown, path: (string | number)[]): void => {
    places.push({ path, line });
    if (typeof value !== "object" || value === null) return;
    const entries = Object.entries(value);
    if (entries.length === 0) return;
    for (const [key, inner] of entries) {
      line++;
      visit(inner, [...path, Array.isArray(value) ? Number(key) : key]);
    }
    line++;
  };
  visit(whole, []);
  return places;
}
