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

/** A plain prompt → token ids, with the special tokens that the tokenizer adds by itself. */
export function encodePrompt(model: TextModel, prompt: string): number[] {
  return model.tokenizer.encode(prompt);
}

/**
 * Messages → token ids, up to where the assistant's answer begins.
 * @throws `request_invalid` when the model has no chat template, or when its template refuses the messages.
 */
export function encodeChat(model: TextModel, messages: readonly ChatMessage[]): number[] {
  if (model.chatTemplate === null) {
    throw new BlockllmError("request_invalid", "the model has no chat template", {
      hint: "Send the whole prompt to /v1/completions.",
    });
  }
  const prompt = model.chatTemplate.render(messages);
  // Most templates write the beginning token themselves: the tokenizer must not put a second one in front.
  const begun = model.beginText !== null && prompt.startsWith(model.beginText);
  return model.tokenizer.encode(prompt, { plain: begun });
}
