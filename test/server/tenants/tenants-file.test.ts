import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { hashApiKey, newApiKey } from "../../../src/server/tenants/api-key.ts";
import {
  isOpenToOthers,
  parseTenants,
  readEntries,
  readTenants,
  updateTenants,
} from "../../../src/server/tenants/tenants-file.ts";

let folder = "";
let path = "";
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "blockllm-tenants-"));
  path = join(folder, "tenants.json");
});
afterEach(async () => rm(folder, { recursive: true }));

const HASH = hashApiKey("a");
const entry = (name: string, more: object = {}): object => ({ name, keys: [], ...more });
const file = (...tenants: object[]): string => JSON.stringify({ version: 1, tenants }, null, 2);

describe("a file that is not in order is refused with line and field", () => {
  test.each([
    ["not JSON", '{\n "version": 1,\n "tenants" []\n}', /^t\.json line 3: not JSON/],
    ["not an object", "[]", /line 1: the file is \[\]: expected object/],
    ["another version", '{\n "version": 2,\n "tenants": []\n}', /line 2: "version" is 2/],
    ["a misspelt key", file(entry("a", { weigth: 2 })), /line 4: unknown key "weigth" in "tenants\[0\]"/],
    ["a limit of nothing", file(entry("a"), entry("b", { limits: { max_tokens: 0 } })), /line 12: .*max_tokens" is 0/],
    ["a name with a space", file(entry("a b")), /line 5: "tenants\[0\]\.name" is "a b"/],
    ["a name twice", file(entry("a"), entry("a")), /line 9: two tenants are called "a"/],
    [
      "a key twice",
      file(entry("a", { keys: [{ sha256: HASH }] }), entry("b", { keys: [{ sha256: HASH }] })),
      /two places/,
    ],
    ["a date that is none", file(entry("a", { keys: [{ sha256: HASH, ends: "soon" }] })), /ends" is "soon"/],
  ])("%s", (_what, text, message) => {
    expect(() => parseTenants(text, "t.json")).toThrow(
      expect.objectContaining({ code: "tenants_invalid", message: expect.stringMatching(message) }),
    );
  });

  test("a key where its hash belongs, without telling the key", () => {
    const key = newApiKey();
    const text = file(entry("a", { keys: [{ sha256: key }] }));
    expect(() => parseTenants(text, "t.json")).toThrow(/"tenants\[0\]\.keys\[0\]\.sha256" is not the sha256/);
    expect(() => parseTenants(text, "t.json")).not.toThrow(new RegExp(key));
  });
});

test("a file is made for its owner alone, changed in place, and keeps its mode", async () => {
  await updateTenants(path, (entries) => [...entries, { name: "a", keys: [{ sha256: HASH }] }]);
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  expect(await isOpenToOthers(path)).toBe(false);
  await chmod(path, 0o644);
  expect(await isOpenToOthers(path)).toBe(true);
  await updateTenants(path, (entries) => [...entries, { name: "b", keys: [], models: ["m"] }]);
  expect((await stat(path)).mode & 0o777).toBe(0o644);
  expect((await readEntries(path)).map(({ name }) => name)).toEqual(["a", "b"]);
  expect(await readdir(folder)).toEqual(["tenants.json"]);
});

test("what would not be read is not written", async () => {
  await updateTenants(path, () => [{ name: "a", keys: [] }]);
  const before = await readFile(path, "utf8");
  await expect(updateTenants(path, (entries) => [...entries, { name: "a", keys: [] }])).rejects.toMatchObject({
    code: "tenants_invalid",
  });
  expect(await readFile(path, "utf8")).toBe(before);
});

test("commands that change it at once lose nothing", async () => {
  const names = Array.from({ length: 8 }, (_, at) => `t${at}`);
  await Promise.all(names.map(async (name) => updateTenants(path, (entries) => [...entries, { name, keys: [] }])));
  expect((await readEntries(path)).map(({ name }) => name).toSorted()).toEqual(names);
});

test("what is left out is not limited", async () => {
  await writeFile(path, file(entry("a", { keys: [{ sha256: HASH, ends: "2030-01-01T00:00:00Z" }] })));
  expect(await readTenants(path)).toEqual([
    {
      name: "a",
      keys: [{ sha256: HASH, ends: Date.UTC(2030, 0) }],
      models: null,
      group: null,
      operator: false,
      priority: "normal",
      weight: 1,
      limits: { running: null, queued: null, tokensPerMinute: null, maxTokens: null },
    },
  ]);
  await expect(readTenants(join(folder, "none.json"))).rejects.toMatchObject({ code: "usage" });
});

test("the document's example is in order", async () => {
  const document = await readFile(join(import.meta.dirname, "../../../docs/http-api.md"), "utf8");
  const [, example = ""] = /```json\n([\s\S]*?)```/.exec(document) ?? [];
  expect(parseTenants(example, "example")).toHaveLength(1);
});
