import type { z } from "zod";

/** What is wrong with one value: where it lies, as one would write it in code, and why. */
export interface DescribedIssue {
  path: string;
  message: string;
  /** The key that nobody knows, where that is what is wrong; `path` then leads to what holds it. */
  unknownKey: string | null;
}

/** The issue to tell of: a misspelt key often shows up as a missing one too, and the misspelling is what to say. */
export function foremostIssue({ issues }: z.ZodError): z.core.$ZodIssue {
  return issues.find(({ code }) => code === "unrecognized_keys") ?? issues[0]!;
}

/** `whole` is what was checked, `called` names it: "the request". */
export function describeIssue(issue: z.core.$ZodIssue, whole: unknown, called: string): DescribedIssue {
  const path = formatPath(issue.path);
  if (issue.code === "unrecognized_keys") {
    const unknownKey = issue.keys[0]!;
    return { path, unknownKey, message: `unknown key "${unknownKey}" in ${path === "" ? called : `"${path}"`}` };
  }
  const value = valueAt(whole, issue.path);
  const expectation = issue.message.replace(/^Invalid input: /, "").replace(/, received .*$/, "");
  const name = path === "" ? called : `"${path}"`;
  const message =
    value === undefined ? `${name} is missing: ${expectation}` : `${name} is ${abbreviate(value)}: ${expectation}`;
  return { path, unknownKey: null, message };
}

export function formatPath(path: readonly PropertyKey[]): string {
  return path
    .map((key, place) => (typeof key === "number" ? `[${key}]` : `${place > 0 ? "." : ""}${String(key)}`))
    .join("");
}

function valueAt(whole: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce((value: unknown, key) => Object(value)[key], whole);
}

const SHOWN = 60;

function abbreviate(value: unknown): string {
  const text = beginJson(value, SHOWN + 1);
  return text.length <= SHOWN ? text : `${text.slice(0, SHOWN - 3)}...`;
}

/** A value's JSON, or so many first characters of it: it may be as long as a body, and nested as deep. */
function beginJson(value: unknown, most: number): string {
  if (typeof value === "string") return JSON.stringify(value.slice(0, most));
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  let text = open!;
  for (const [key, one] of Object.entries(Array.isArray(value) ? value.slice(0, most) : value)) {
    if (text.length >= most) return text;
    const name = Array.isArray(value) ? "" : `${JSON.stringify(key.slice(0, most))}:`;
    const left = most - text.length - name.length;
    text += `${text === open ? "" : ","}${name}${left > 0 ? beginJson(one, left) : ""}`;
  }
  return text + close!;
}
