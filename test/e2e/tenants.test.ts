import { chmodSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import OpenAI from "openai";
import { afterAll, beforeAll, expect, it } from "vitest";
import { finish, makeWorkplace, removeWorkplace, run, runError, runJson, start, startServer } from "./blockllm.ts";

let folder = "";
let server: Awaited<ReturnType<typeof startServer>>;
const keys = new Map<string, string>();

beforeAll(async () => {
  folder = makeWorkplace({ keep: true });
  await runJson(folder, "split", "fixtures/desk/optimum/hr", "fixtures/desk/optimum/legal");
  await addTenant("acme", "--models", "hr", "--max-tokens", "40");
  await addTenant("ops", "--operator");
  server = await startServer(folder, "--tenants", "tenants.json");
});
afterAll(async () => {
  await server.stop();
  removeWorkplace(folder);
});

async function addTenant(name: string, ...options: string[]): Promise<void> {
  const { key } = await runJson<{ key: string }>(folder, "tenant", "add", name, ...options);
  keys.set(name, key);
}

function client(name: string): OpenAI {
  return new OpenAI({ baseURL: `${server.url}/v1`, apiKey: keys.get(name)!, maxRetries: 0 });
}

async function modelsOf(name: string): Promise<string[]> {
  return (await client(name).models.list()).data.map(({ id }) => id);
}

it("keeps hashes of keys in a file for its owner alone", async () => {
  const text = readFileSync(join(folder, "tenants.json"), "utf8");
  for (const key of keys.values()) expect(text).not.toContain(key);
  expect(statSync(join(folder, "tenants.json")).mode & 0o777).toBe(0o600);
  const { tenants } = await runJson<{ tenants: object[] }>(folder, "tenant", "list");
  expect(tenants).toEqual([
    { name: "acme", keys: 1, models: ["hr"], limits: { max_tokens: 40 } },
    { name: "ops", keys: 1, operator: true },
  ]);
  expect((await run(folder, "tenant", "list")).stdout).toMatch(/^acme +1 +hr +normal +1 +max tokens: 40$/m);
});

it("serves every tenant its own models and nothing of others", async () => {
  expect(await modelsOf("acme")).toEqual(["hr"]);
  expect(await modelsOf("ops")).toEqual(["hr", "legal"]);
  await expect(client("acme").completions.create({ model: "legal", prompt: "x" })).rejects.toMatchObject({
    status: 404,
  });
  const text = (await client("acme").completions.create({ model: "hr", prompt: "owner :", max_tokens: 3 })).choices[0]!;
  expect(text.finish_reason).toMatch(/stop|length/);
  expect(await (await fetch(`${server.url}/healthz`)).json()).toEqual({ status: "ok" });
  expect((await fetch(`${server.url}/metrics`)).status).toBe(401);
  const headers = { authorization: `Bearer ${keys.get("ops")}` };
  expect((await fetch(`${server.url}/metrics`, { headers })).status).toBe(200);
});

it("forgets what it keeps of a tenant when an operator says so", async () => {
  const forget = ["--json", "--quiet", "forget", "acme", "--url", server.url];
  const forgot = await finish(start(folder, forget, { BLOCKLLM_API_KEY: keys.get("ops")! }));
  expect(JSON.parse(forgot.stdout)).toEqual({ tenant: "acme", group: null, bytes: 0 });
  expect(await runError(folder, ...forget.slice(2))).toMatchObject({ exit: 2, code: "invalid_api_key" });
  const nobody = ["forget", "acme", "--url", "http://127.0.0.1:9"];
  expect(await runError(folder, ...nobody)).toMatchObject({ exit: 1, code: "server_unreachable" });
});

it("reads the file again on SIGHUP; running answers go on, and a broken file changes nothing", async () => {
  const before = keys.get("acme")!;
  const stream = await client("ops").completions.create({
    model: "hr",
    prompt: "owner",
    max_tokens: 300,
    stream: true,
  });
  const frames = stream[Symbol.asyncIterator]();
  await frames.next();

  const { key } = await runJson<{ key: string }>(folder, "tenant", "rotate", "acme");
  await runJson(folder, "tenant", "rm", "ops");
  keys.set("acme", key);
  server.child.kill("SIGHUP");
  await expect.poll(async () => modelsOf("acme").catch(() => null)).toEqual(["hr"]);
  const old = await fetch(`${server.url}/v1/models`, { headers: { authorization: `Bearer ${before}` } });
  expect(old.status).toBe(401);

  let last;
  for (let next = await frames.next(); !next.done; next = await frames.next()) last = next.value;
  expect(last?.choices[0]!.finish_reason).toMatch(/stop|length/);

  writeFileSync(join(folder, "tenants.json"), '{"version": 1,\n"tenants": [{}]}');
  server.child.kill("SIGHUP");
  expect(await modelsOf("acme")).toEqual(["hr"]);
});

it("says what is wrong with a file before it loads anything", async () => {
  writeFileSync(join(folder, "broken.json"), '{"version": 1,\n"tenants": [{"name": "a", "key": "x"}]}');
  expect(await runError(folder, "serve", "--tenants", "broken.json")).toMatchObject({
    exit: 2,
    code: "tenants_invalid",
    message: expect.stringMatching(/^broken\.json line 2: unknown key "key"/),
  });
  expect(await runError(folder, "serve", "--tenants", "nowhere.json")).toMatchObject({ exit: 2, code: "usage" });
  expect(await runError(folder, "tenant", "rotate", "nobody", "--tenants", "other.json")).toMatchObject({
    exit: 2,
    code: "tenant_not_found",
  });
});

it("does not listen beyond this machine without keys, unless it is told to", async () => {
  expect(await runError(folder, "serve", "--host", "0.0.0.0")).toMatchObject({ exit: 2, code: "usage" });
  const open = await startServer(folder, "--host", "0.0.0.0", "--open", "--models", "hr");
  expect((await fetch(open.url.replace("0.0.0.0", "127.0.0.1") + "/v1/models")).status).toBe(200);
  expect((await open.stop()).code).toBe(0);
});

it("warns of a file that everybody can read, and of models that are not served", async () => {
  const file = join(folder, "loose.json");
  await runJson(folder, "tenant", "add", "acme", "--models", "hr,gone", "--tenants", "loose.json");
  chmodSync(file, 0o644);
  const child = await startServer(folder, "--tenants", "loose.json", "--models", "hr", "--no-color");
  const { stderr } = await child.stop();
  expect(stderr).toBe("");
  const loud = run(folder, "serve", "--tenants", "loose.json", "--models", "hr", "--port", new URL(server.url).port);
  expect((await loud).stderr).toMatch(
    /loose\.json can be read or written[^]*tenant acme may use gone, which is not served/,
  );
});
