import { Template } from "@huggingface/jinja";
import { BlockllmError } from "../support/errors.ts";
import { reasonOf } from "../support/reason.ts";

export interface ChatMessage {
  role: string;
  content: string;
}

/** Messages → the prompt's text, up to where the assistant's answer begins. */
export interface ChatTemplate {
  /** @throws `request_invalid` with the template's own words when it refuses the messages. */
  render(messages: readonly ChatMessage[]): string;
}

/**
 * @param source Jinja as `chat_template.jinja` or `tokenizer_config.json` hold it.
 * @param specialTokens Names as templates use them (`bos_token`, `eos_token`, …) with the tokens' texts.
 * @throws `model_invalid` when it is no Jinja.
 */
export function createChatTemplate(source: string, specialTokens: Readonly<Record<string, string>>): ChatTemplate {
  const template = parseTemplate(source);
  return {
    render: (messages) => {
      try {
        return template.render({ ...specialTokens, messages, add_generation_prompt: true, tools: null });
      } catch (cause) {
        throw new BlockllmError(
          "request_invalid",
          `the model's chat template refuses the messages: ${reasonOf(cause)}`,
          {
            hint: "Send the roles in the order that the model was trained on, or write the prompt yourself for /v1/completions.",
            cause,
          },
        );
      }
    },
  };
}

function parseTemplate(source: string): Template {
  try {
    return new Template(source);
  } catch (cause) {
    throw new BlockllmError("model_invalid", `the chat template cannot be read: ${reasonOf(cause)}`, {
      hint: "Correct chat_template.jinja in the model folder and split the model again.",
      cause,
    });
  }
}
