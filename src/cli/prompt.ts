import { z } from "zod";
import { BlockllmError } from "../support/errors.ts";
import { reasonOf } from "../support/reason.ts";
import { encodeChat, encodePrompt, type TextModel } from "../text/text-model.ts";
import { readGivenFile } from "./read-given-file.ts";

/** The three ways to give a prompt; exactly one of them. */
export interface PromptOptions {
  prompt?: string;
  messages?: string;
  tokens?: number[];
}

/** Token ids of whichever way was chosen. `text`: null when the model came without a tokenizer. */
export async function encodeChosenPrompt(options: PromptOptions, text: TextModel | null): Promise<number[]> {
  const { prompt, messages, tokens } = options;
  const given = [prompt, messages, tokens].filter((way) => way !== undefined).length;
  if (given !== 1) {
    throw new BlockllmError("usage", `${given} of --prompt, --messages and --tokens are given; it must be one`, {
      hint: 'blockllm generate <model> --prompt "..."',
    });
  }
  if (tokens !== undefined) return tokens;
  if (text === null) {
    throw new BlockllmError("tokenizer_missing", "the model came without a tokenizer, and text needs one", {
      hint: "give token ids with --tokens, or split the model again with its tokenizer.json",
    });
  }
  return prompt === undefined ? encodeChat(text, await readMessages(messages!)) : encodePrompt(text, prompt);
}

const MESSAGES = z.array(z.object({ role: z.string(), content: z.string() })).min(1);

async function readMessages(file: string): Promise<z.infer<typeof MESSAGES>> {
  const said = { what: `--messages ${file}`, hint: 'the file holds JSON like [{"role": "user", "content": "..."}]' };
  const text = await readGivenFile(file, said);
  return understand(MESSAGES, () => JSON.parse(text), said);
}

const PROMPTS = z
  .array(z.union([z.string(), z.object({ prompt: z.string() }).transform(({ prompt }) => prompt)]))
  .min(1);

/** A JSON array, or a line of JSON each: strings, or objects with a `prompt`. */
export async function readPromptFile(file: string): Promise<string[]> {
  const said = {
    what: `--prompts ${file}`,
    hint: 'the file holds a JSON array or JSON lines, of strings or of objects like {"prompt": "..."}',
  };
  const text = (await readGivenFile(file, said)).trim();
  const lines = () => text.split("\n").filter((line) => line.trim() !== "");
  const parse = () => (text.startsWith("[") ? JSON.parse(text) : lines().map((line) => JSON.parse(line)));
  return understand(PROMPTS, parse, said);
}

function understand<Value>(
  schema: z.ZodType<Value>,
  parse: () => unknown,
  { what, hint }: { what: string; hint: string },
) {
  try {
    return schema.parse(parse());
  } catch (cause) {
    const reason = cause instanceof z.ZodError ? (cause.issues[0]?.message ?? "") : reasonOf(cause);
    throw new BlockllmError("usage", `${what}: ${reason}`, { hint, cause });
  }
}
