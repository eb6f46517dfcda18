import { z } from "zod";

/**
 * Lists that may fill a whole body. They are checked by loops of our own: a schema that tries each kind of list in turn and
 * reports every element took 4 seconds for 1.5 million token ids, in which nobody else is served.
 */

export type PromptInput = string | string[] | number[] | number[][];

/** A prompt as text or as token ids, or several of one kind. */
export const promptInput = z.unknown().transform((value, { issues }): PromptInput => {
  const wrong = findWrong(value);
  if (wrong === null) return value as PromptInput;
  issues.push({ code: "custom", input: value, ...wrong });
  return z.NEVER;
});

interface Wrong {
  path: number[];
  message: string;
}

const EXPECTED = "expected a string, a list of strings, a list of token ids, or a list of lists of token ids";

function findWrong(prompt: unknown): Wrong | null {
  if (typeof prompt === "string") return null;
  if (!Array.isArray(prompt) || prompt.length === 0) return { path: [], message: EXPECTED };
  if (typeof prompt[0] === "number") return findWrongToken(prompt, []);
  const isKind = typeof prompt[0] === "string" ? (one: unknown) => typeof one === "string" : isFilledList;
  for (const [place, one] of prompt.entries()) {
    if (!isKind(one)) return { path: place === 0 ? [] : [place], message: EXPECTED };
    const wrong = Array.isArray(one) ? findWrongToken(one, [place]) : null;
    if (wrong) return wrong;
  }
  return null;
}

function isFilledList(one: unknown): boolean {
  return Array.isArray(one) && one.length > 0;
}

function findWrongToken(tokens: readonly unknown[], path: number[]): Wrong | null {
  const place = tokens.findIndex((token) => !Number.isSafeInteger(token) || (token as number) < 0);
  return place === -1 ? null : { path: [...path, place], message: "expected a token id, a whole number >=0" };
}

export type MessageContent = string | { type: "text"; text: string }[];

/** What a message says: text, or parts that are all text. */
export const messageContent = z.custom<MessageContent>(
  (content) => typeof content === "string" || (Array.isArray(content) && content.every(isTextPart)),
  { error: 'expected a string or a list of {"type": "text", "text": string}; other content is not supported' },
);

function isTextPart(part: unknown): boolean {
  if (typeof part !== "object" || part === null || !("type" in part) || !("text" in part)) return false;
  return part.type === "text" && typeof part.text === "string" && Object.keys(part).length === 2;
}
