import type { z } from "zod";
import { reasonOf } from "../../support/reason.ts";
import { InvalidRequest } from "./invalid-request.ts";
import { withoutUnsupported } from "./unsupported.ts";

/**
 * A request's body, checked key by key.
 * @throws `request_invalid` naming the key, what it holds, and what is allowed.
 */
export function parseRequest<Shape extends z.ZodRawShape, Config extends z.core.$ZodObjectConfig>(
  body: string,
  schema: z.ZodObject<Shape, Config>,
  unsupported: Parameters<typeof withoutUnsupported>[1],
): z.output<z.ZodObject<Shape, Config>> {
  const fields = withoutUnsupported(parseObject(body), unsupported);
  const parsed = schema.safeParse(fields);
  if (parsed.success) return parsed.data;
  // A misspelt key often shows up as a missing one too: the misspelling is what to say.
  const { issues } = parsed.error;
  const issue = issues.find(({ code }) => code === "unrecognized_keys") ?? issues[0]!;
  throw invalidKey(issue, fields, Object.keys(schema.shape));
}

function parseObject(body: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch (cause) {
    throw new InvalidRequest(`the request body is not JSON: ${reasonOf(cause)}`, null, { cause });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new InvalidRequest("the request body is not a JSON object", null);
  }
  return Object.fromEntries(Object.entries(value));
}

function invalidKey(issue: z.core.$ZodIssue, fields: Record<string, unknown>, allowed: string[]): InvalidRequest {
  const path = formatPath(issue.path);
  if (issue.code === "unrecognized_keys") {
    const key = issue.keys[0]!;
    const place = path === "" ? "the request" : `"${path}"`;
    const hint = path === "" ? `Allowed: ${allowed.toSorted().join(", ")}.` : `Take "${key}" out of ${place}.`;
    return new InvalidRequest(`unknown key "${key}" in ${place}`, path === "" ? key : `${path}.${key}`, { hint });
  }
  const value = valueAt(fields, issue.path);
  const expectation = issue.message.replace(/^Invalid input: /, "").replace(/, received .*$/, "");
  if (value === undefined) return new InvalidRequest(`"${path}" is missing: ${expectation}`, path);
  return new InvalidRequest(`"${path}" is ${abbreviate(value)}: ${expectation}`, path);
}

function formatPath(path: readonly PropertyKey[]): string {
  return path
    .map((key, place) => (typeof key === "number" ? `[${key}]` : `${place > 0 ? "." : ""}${String(key)}`))
    .join("");
}

function valueAt(fields: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce((value: unknown, key) => Object(value)[key], fields);
}

function abbreviate(value: unknown): string {
  const text = JSON.stringify(value);
  return text.length <= 60 ? text : `${text.slice(0, 57)}...`;
}
