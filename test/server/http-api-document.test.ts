import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { UNSUPPORTED_IN_CHAT, UNSUPPORTED_IN_COMPLETIONS } from "../../src/server/openai/unsupported.ts";
import { chatRequest, completionRequest } from "../../src/server/openai/wire.ts";
import { saying, testServer } from "./scripted-engine.ts";

const DOCUMENT = readFileSync(join(import.meta.dirname, "../../docs/http-api.md"), "utf8");
const section = (title: string): string => DOCUMENT.split(/^## /m).find((part) => part.startsWith(title))!;

test("the document names every key of both endpoints, and no other", () => {
  const known = [chatRequest.shape, completionRequest.shape, UNSUPPORTED_IN_CHAT, UNSUPPORTED_IN_COMPLETIONS].flatMap(
    Object.keys,
  );
  const rows = section("What a request").matchAll(/^\| `(\w+)` \|/gm);
  const lists = section("What a request")
    .split("Taken and ignored")[1]!
    .matchAll(/`(\w+)`/g);
  expect(new Set(Array.from([...rows, ...lists], ([, key]) => key))).toEqual(new Set(known));
});

test("the document names every metric, and no other", async () => {
  const { app } = testServer(() => saying("x"));
  const served = (await (await app.request("/metrics")).text()).matchAll(/^# TYPE (\w+)/gm);
  const documented = section("Metrics").matchAll(/`(blockllm_\w+)`/g);
  expect(new Set(Array.from(documented, ([, name]) => name))).toEqual(new Set(Array.from(served, ([, name]) => name)));
});
