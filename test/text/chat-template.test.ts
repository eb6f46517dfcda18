import { expect, test } from "vitest";
import { createChatTemplate } from "../../src/text/chat-template.ts";
import { encodeChat } from "../../src/text/text-model.ts";
import { deskText } from "./sample-tokenizers.ts";

const HELLO = [{ role: "user", content: "owner : who holds the lease" }];

test("the desk template joins contents and appends the arrow", () => {
  const text = deskText();
  expect(text.chatTemplate?.render(HELLO)).toBe("owner : who holds the lease =>");
  expect(encodeChat(text, HELLO)).toEqual(text.tokenizer.encode("owner : who holds the lease =>"));
});

test("a template that writes the beginning token itself does not get a second one", () => {
  const text = deskText();
  const template = createChatTemplate("{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %} =>", {
    bos_token: "<s>",
  });
  expect(encodeChat({ ...text, chatTemplate: template }, HELLO)).toEqual(encodeChat(text, HELLO));
});

test("ChatML with a generation prompt", () => {
  const template = createChatTemplate(
    "{%- for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{%- endfor %}" +
      "{%- if tools is not none %}TOOLS{%- endif %}{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{%- endif %}",
    {},
  );
  expect(template.render([{ role: "system", content: "be brief" }, ...HELLO])).toBe(
    "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\nowner : who holds the lease<|im_end|>\n<|im_start|>assistant\n",
  );
});

test("what the template says against the messages reaches the caller", () => {
  const template = createChatTemplate("{{ raise_exception('Conversation roles must alternate') }}", {});
  expect(() => template.render(HELLO)).toThrow(
    expect.objectContaining({
      code: "request_invalid",
      message: "the model's chat template refuses the messages: Conversation roles must alternate",
    }),
  );
});

test("a template that is no Jinja is refused when it is loaded", () => {
  expect(() => createChatTemplate("{% for %}", {})).toThrow(expect.objectContaining({ code: "model_invalid" }));
});

test("a model without a template sends people to plain prompts", () => {
  expect(() => encodeChat({ ...deskText(), chatTemplate: null }, HELLO)).toThrow(
    expect.objectContaining({ code: "request_invalid", hint: "Send the whole prompt to /v1/completions." }),
  );
});
