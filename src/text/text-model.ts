import type { ChatMessage, ChatTemplate } from "./chat-template.ts";
import type { Tokenizer } from "./tokenizer.ts";
import { BlockllmError } from "../support/errors.ts";

/** What a model needs besides its weights to speak text: its tokenizer and its chat template. */
export interface TextModel {
  tokenizer: Tokenizer;
  /** null: the model came without one and takes only plain prompts. */
  chatTemplate: ChatTemplate | null;
  /** The text of the token that begins a sequence, where the tokenizer's configuration names one. */
  beginText: string | null;
  /** Tokens that end an answer, as the tokenizer's configuration names them; may be empty. */
  endTokens: number[];
}

/**
 * A plain prompt → token ids, with the special tokens that the tokenizer adds by itself.
 * @throws `context_length_exceeded` for a text so long that its tokens need not be counted.
 */
export function encodePrompt(model: TextModel, prompt: string, tokenLimit = Infinity): number[] {
  requirePlausibleLength(model, prompt, tokenLimit);
  return model.tokenizer.encode(prompt);
}

/**
 * Messages → token ids, up to where the assistant's answer begins.
 * @throws `request_invalid` when the model has no chat template, or when its template refuses the messages;
 * `context_length_exceeded` as `encodePrompt`.
 */
export function encodeChat(model: TextModel, messages: readonly ChatMessage[], tokenLimit = Infinity): number[] {
  if (model.chatTemplate === null) {
    throw new BlockllmError("request_invalid", "the model has no chat template", {
      hint: "Send the whole prompt to /v1/completions.",
    });
  }
  const prompt = model.chatTemplate.render(messages);
  requirePlausibleLength(model, prompt, tokenLimit);
  // Most templates write the beginning token themselves: the tokenizer must not put a second one in front.
  const begun = model.beginText !== null && prompt.startsWith(model.beginText);
  return model.tokenizer.encode(prompt, { plain: begun });
}

/** Tokenising a text of megabytes takes seconds in which nobody else is served, only to find that it is too long. */
function requirePlausibleLength({ tokenizer }: TextModel, prompt: string, tokenLimit: number): void {
  const fewest = Math.ceil(prompt.length / tokenizer.longestToken);
  if (fewest <= tokenLimit) return;
  throw new BlockllmError(
    "context_length_exceeded",
    `the prompt has ${prompt.length} characters, at least ${fewest} tokens; the model holds ${tokenLimit}`,
    { hint: "Shorten the prompt." },
  );
}
