import type { z } from "zod";
import { reasonOf } from "../../support/reason.ts";
import { describeIssue, foremostIssue } from "../describe-issue.ts";
import { InvalidRequest } from "./invalid-request.ts";
import { withoutUnsupported } from "./unsupported.ts";

/** Far more than anyone understands; each would be looked at. */
const KEYS_LIMIT = 256;

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
  throw invalidKey(foremostIssue(parsed.error), fields, Object.keys(schema.shape));
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
  const keys = Object.keys(value).length;
  if (keys > KEYS_LIMIT) throw new InvalidRequest(`the request has ${keys} keys; the limit is ${KEYS_LIMIT}`, null);
  return Object.fromEntries(Object.entries(value));
}

function invalidKey(issue: z.core.$ZodIssue, fields: Record<string, unknown>, allowed: string[]): InvalidRequest {
  const { path, message, unknownKey } = describeIssue(issue, fields, "the request");
  if (unknownKey === null) return new InvalidRequest(message, path);
  const hint = path === "" ? `Allowed: ${allowed.toSorted().join(", ")}.` : `Take "${unknownKey}" out of "${path}".`;
  return new InvalidRequest(message, path === "" ? unknownKey : `${path}.${unknownKey}`, { hint });
}
