import { z } from "zod";
import type { BlobStore } from "../store/blob-store.ts";
import type { ModelDocument } from "../store/model-document.ts";
import { BlockllmError } from "../support/errors.ts";
import { reasonOf } from "../support/reason.ts";
import { createChatTemplate } from "./chat-template.ts";
import type { TextModel } from "./text-model.ts";
import { createTokenizer } from "./tokenizer.ts";

/** Where stored blobs are read: a repository. */
export interface FileSource {
  blobs: Pick<BlobStore, "read">;
}

/**
 * A stored model's tokenizer and chat template, from the files that came with it.
 * @throws `tokenizer_missing` when there is no `tokenizer.json`; `model_invalid` when a file cannot be used.
 */
export async function loadTextModel(repository: FileSource, model: Pick<ModelDocument, "files">): Promise<TextModel> {
  const read = async (name: string): Promise<string | null> => {
    const file = model.files.find((candidate) => candidate.name === name);
    return file === undefined ? null : new TextDecoder().decode(await repository.blobs.read(file.digest));
  };
  return createTextModel({
    tokenizer: await read("tokenizer.json"),
    config: await read("tokenizer_config.json"),
    specialTokens: await read("special_tokens_map.json"),
    template: await read("chat_template.jinja"),
    templateJson: await read("chat_template.json"),
  });
}

/** The models that have a tokenizer; one without is left out and can still be asked with token ids. */
export async function loadTextModels(
  repository: FileSource,
  models: ReadonlyMap<string, Pick<ModelDocument, "files">>,
): Promise<Map<string, TextModel>> {
  const texts = new Map<string, TextModel>();
  for (const [name, model] of models) {
    try {
      texts.set(name, await loadTextModel(repository, model));
    } catch (error) {
      if (!(error instanceof BlockllmError && error.code === "tokenizer_missing")) throw error;
    }
  }
  return texts;
}

/** The files' contents; null: not there. */
export interface TextFiles {
  tokenizer: string | null;
  config: string | null;
  specialTokens: string | null;
  template: string | null;
  templateJson: string | null;
}

export function createTextModel(files: TextFiles): TextModel {
  if (files.tokenizer === null) {
    throw new BlockllmError("tokenizer_missing", "the model came without a tokenizer.json", {
      hint: "Give token ids instead of text, or put tokenizer.json into the model folder and split it again.",
    });
  }
  const config = parseObject("tokenizer_config.json", files.config);
  const names = specialTokens({ ...parseObject("special_tokens_map.json", files.specialTokens), ...config });
  const tokenizer = createTokenizer(parseObject("tokenizer.json", files.tokenizer), config);
  const template =
    files.template ?? templateOf(parseObject("chat_template.json", files.templateJson)) ?? templateOf(config);
  const endToken = names["eos_token"] === undefined ? undefined : tokenizer.tokenId(names["eos_token"]);
  return {
    tokenizer,
    chatTemplate: template === null ? null : createChatTemplate(template, names),
    beginText: names["bos_token"] ?? null,
    endTokens: endToken === undefined ? [] : [endToken],
  };
}

const JSON_OBJECT = z.record(z.string(), z.unknown());

function parseObject(name: string, text: string | null): Record<string, unknown> {
  if (text === null) return {};
  try {
    const parsed = JSON_OBJECT.safeParse(JSON.parse(text));
    if (parsed.success) return parsed.data;
    throw new SyntaxError("it holds something else");
  } catch (cause) {
    throw new BlockllmError("model_invalid", `${name} is not a JSON object: ${reasonOf(cause)}`, {
      hint: `Replace ${name} in the model folder and split the model again.`,
      cause,
    });
  }
}

const SPECIAL_TOKEN = z.union([z.string(), z.object({ content: z.string() }).transform((token) => token.content)]);

/** `bos_token` and its kind, written either as text or as a description with `content`. */
function specialTokens(config: Record<string, unknown>): Record<string, string> {
  const names: Record<string, string> = {};
  for (const [key, value] of Object.entries(config)) {
    const token = SPECIAL_TOKEN.safeParse(value);
    if (key.endsWith("_token") && token.success) names[key] = token.data;
  }
  return names;
}

const NAMED_TEMPLATES = z.array(z.object({ name: z.string(), template: z.string() }));

/** `chat_template` is one template, or a list of named ones of which `default` is the one for talking. */
function templateOf(config: Record<string, unknown>): string | null {
  const value = config["chat_template"];
  if (typeof value === "string") return value;
  const named = NAMED_TEMPLATES.safeParse(value);
  return named.data?.find((entry) => entry.name === "default")?.template ?? null;
}
