import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { HttpTarget, retryAfter } from "../../src/traffic/http-target.ts";
import type { Question } from "../../src/traffic/questions.ts";
import type { NewTokens } from "../../src/traffic/target.ts";

const servers: Server[] = [];
const QUESTION: Question = { index: 0, tenant: 1, model: "m", prompt: [4, 5], maxTokens: 3, temperature: 0, seed: 1 };

afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

/** A server that lists one model and answers completions as told; gives what it was sent. */
async function serve(
  answer: (response: ServerResponse) => void,
): Promise<{ url: string; sent: { key: string; body: unknown }[] }> {
  const sent: { key: string; body: unknown }[] = [];
  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    if (request.url === "/v1/models")
      return void response.end(JSON.stringify({ data: [{ id: "m", object: "model" }] }));
    if (request.url === "/metrics") return void response.writeHead(404).end();
    let text = "";
    for await (const piece of request) text += String(piece);
    sent.push({ key: request.headers.authorization ?? "", body: JSON.parse(text) });
    answer(response);
  };
  const server = createServer((request, response) => void handle(request, response)).listen(0, "127.0.0.1");
  servers.push(server);
  await new Promise((ready) => server.once("listening", ready));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, sent };
}

async function ask(url: string, keys: string[] = []) {
  const target = await HttpTarget.connect({ url, keys });
  const tokens: NewTokens[] = [];
  const answer = await target.ask(QUESTION, (some) => tokens.push(some), new AbortController().signal);
  return { target, tokens, answer };
}

function frames(...chunks: object[]): (response: ServerResponse) => void {
  return (response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(": a comment\n\n");
    // Broken in the middle of a frame, as networks do.
    const text = chunks.map((chunk) => `data: ${JSON.stringify(chunk)}\n\n`).join("");
    response.write(text.slice(0, 25));
    setTimeout(() => response.end(`${text.slice(25)}data: [DONE]\n\n`), 5);
  };
}

describe("a server of somebody", () => {
  test("is asked as OpenAI's completions are, tenant by tenant with its key", async () => {
    const { url, sent } = await serve(frames({ choices: [{ text: "a", finish_reason: "length" }] }));
    await ask(`${url}/v1/`, ["first", "second"]);
    expect(sent).toEqual([
      {
        key: "Bearer second",
        body: expect.objectContaining({ model: "m", prompt: [4, 5], max_tokens: 3, stream: true, temperature: 0 }),
      },
    ]);
  });

  test("that tells token ids is believed them, and its usage", async () => {
    const { url } = await serve(
      frames(
        { choices: [{ text: "", token_ids: [7, 8] }] },
        { choices: [{ text: "x", token_ids: [9], finish_reason: "stop" }] },
        { choices: [], usage: { prompt_tokens: 2, completion_tokens: 3 } },
      ),
    );
    const { tokens, answer, target } = await ask(url);
    expect(tokens).toEqual([
      { count: 2, ids: [7, 8] },
      { count: 1, ids: [9] },
    ]);
    expect(answer).toEqual({ reason: "stop", promptTokens: 2, completionTokens: 3 });
    expect(await target.holdings()).toBeNull();
  });

  test("that tells text only is counted piece by piece", async () => {
    const { url } = await serve(
      frames({ choices: [{ text: "a" }] }, { choices: [{ text: "b", finish_reason: "stop" }] }),
    );
    const { tokens, answer } = await ask(url);
    expect(tokens).toEqual([
      { count: 1, ids: null },
      { count: 1, ids: null },
    ]);
    expect(answer).toEqual({ reason: "stop", promptTokens: 0, completionTokens: 2 });
  });

  test("that is full says when to come back", async () => {
    const { url } = await serve((response) => void response.writeHead(429, { "retry-after": "7" }).end("{}"));
    await expect(ask(url)).rejects.toMatchObject({ name: "Refused", retryAfterSeconds: 7 });
  });

  test.each([
    ["fails", (response: ServerResponse) => void response.writeHead(500).end("no"), /HTTP status 500: no/],
    [
      "drains",
      (response: ServerResponse) => void response.writeHead(503).end('{"error":{"code":"draining"}}'),
      /503: draining$/,
    ],
    ["hangs up", (response: ServerResponse) => void response.destroy(), /other side closed|socket hang up|ECONNRESET/],
    ["ends without a reason", frames({ choices: [{ text: "a" }] }), /ended after 1 tokens without a reason/],
    ["fails in the stream", frames({ error: { message: "boom", code: "engine_failed" } }), /engine_failed.*boom/],
  ])("that %s is an error that says so", async (_, answer, expected) => {
    const { url } = await serve(answer);
    await expect(ask(url)).rejects.toThrow(expected);
  });
});

test("Retry-After is seconds or a date", () => {
  const now = Date.parse("2026-01-01T00:00:00Z");
  expect(retryAfter("120", now)).toBe(120);
  expect(retryAfter("Thu, 01 Jan 2026 00:00:30 GMT", now)).toBe(30);
  expect(retryAfter("Wed, 31 Dec 2025 00:00:30 GMT", now)).toBe(0);
  expect(retryAfter("soon", now)).toBeNull();
  expect(retryAfter(null, now)).toBeNull();
});
