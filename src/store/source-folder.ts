import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";

import type { ModelHints } from "../canonical/probe.ts";
import { BlockllmError } from "../support/errors.ts";

/** A model as it lies on disk: one graph and the files that exporters put beside it. */
export interface SourceModel {
  /** The folder the name comes from: the one given, or the one above `onnx/`. */
  folder: string;
  graph: string;
  /** `.onnx_adapter` files beside the graph. */
  adapters: string[];
  /** Tokenizer and configuration files that exist, by name. */
  files: { name: string; path: string }[];
  facts: SourceFacts;
}

export interface SourceFacts extends ModelHints {
  family: string | null;
  endTokens: number[];
  beginToken: number | null;
}

const SIDE_FILES = [
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "chat_template.jinja",
  "config.json",
  "generation_config.json",
  "genai_config.json",
];

/** Looked for in this order; a folder may be optimum's, onnxruntime-genai's, or a Hugging Face one with `onnx/`. */
const GRAPHS = ["model.onnx", "decoder_model_merged.onnx", "decoder_with_past_model.onnx"];

/** Finds the graph and its companions for a folder or a bare .onnx file; throws `model_not_found` or `usage`. */
export function locateModel(path: string): SourceModel {
  const given = resolve(path);
  if (!existsSync(given))
    throw new BlockllmError("model_not_found", `${path} does not exist`, {
      hint: "give a folder with model.onnx in it, or an .onnx file",
    });
  const graph = statSync(given).isDirectory() ? graphIn(given) : given;
  if (!graph.endsWith(".onnx"))
    throw new BlockllmError("model_invalid", `${path} is not an .onnx file`, {
      hint: "give a folder with model.onnx in it, or an .onnx file",
    });
  const beside = dirname(graph);
  const folder = basename(beside) === "onnx" ? dirname(beside) : beside;
  const files = SIDE_FILES.flatMap((name) => {
    const found = [beside, folder].map((each) => join(each, name)).find((each) => existsSync(each));
    return found === undefined ? [] : [{ name, path: found }];
  });
  const adapters = readdirSync(beside)
    .filter((name) => name.endsWith(".onnx_adapter"))
    .map((name) => join(beside, name));
  return { folder, graph, adapters, files, facts: readFacts(files) };
}

function graphIn(folder: string): string {
  const named = genaiFile(folder);
  const candidates = [...(named === null ? [] : [named]), ...GRAPHS, ...GRAPHS.map((name) => join("onnx", name))];
  const found = candidates.map((name) => join(folder, name)).find((path) => existsSync(path));
  if (found !== undefined) return found;
  const others = [folder, join(folder, "onnx")]
    .filter((each) => existsSync(each))
    .flatMap((each) =>
      readdirSync(each)
        .filter((name) => name.endsWith(".onnx"))
        .map((name) => join(each, name)),
    );
  if (others.length === 1) return others[0]!;
  const hint =
    others.length === 0
      ? "export one, e.g. optimum-cli export onnx --task text-generation-with-past"
      : `give one of them: ${others.join(", ")}`;
  throw new BlockllmError(
    "model_not_found",
    `${folder} has ${others.length === 0 ? "no .onnx file" : `${others.length} .onnx files and no model.onnx`}`,
    { hint },
  );
}

function genaiFile(folder: string): string | null {
  const path = join(folder, "genai_config.json");
  const name = existsSync(path) ? at(readJson(path), "model", "decoder", "filename") : null;
  return typeof name === "string" && basename(name) === name ? name : null;
}

function readFacts(files: SourceModel["files"]): SourceFacts {
  const json = (name: string): unknown => {
    const file = files.find((each) => each.name === name);
    return file === undefined ? null : readJson(file.path);
  };
  const [genai, config, generation] = [json("genai_config.json"), json("config.json"), json("generation_config.json")];
  const heads = number(at(config, "num_attention_heads")) ?? number(at(config, "n_head"));
  const hidden = number(at(config, "hidden_size")) ?? number(at(config, "n_embd"));
  return {
    family: text(at(config, "model_type")) ?? text(at(genai, "model", "type")),
    headSize:
      number(at(genai, "model", "decoder", "head_size")) ??
      number(at(config, "head_dim")) ??
      (heads !== null && hidden !== null ? hidden / heads : null),
    contextLength:
      number(at(genai, "model", "context_length")) ??
      number(at(config, "max_position_embeddings")) ??
      number(at(config, "n_positions")) ??
      number(at(config, "max_seq_len")),
    endTokens:
      tokens(at(genai, "model", "eos_token_id")) ??
      tokens(at(generation, "eos_token_id")) ??
      tokens(at(config, "eos_token_id")) ??
      [],
    beginToken: number(at(genai, "model", "bos_token_id")) ?? number(at(config, "bos_token_id")),
  };
}

function readJson(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause;
    throw new BlockllmError("model_invalid", `${path} is not JSON: ${cause.message}`, {
      hint: "download or export the model again",
      cause,
    });
  }
}

function at(value: unknown, ...keys: string[]): unknown {
  return keys.reduce<unknown>(
    (inner, key) => (typeof inner === "object" && inner !== null ? (inner as Record<string, unknown>)[key] : undefined),
    value,
  );
}

function number(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

function text(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}

function tokens(value: unknown): number[] | null {
  const list = Array.isArray(value) ? value : [value];
  const ids = list.filter((each): each is number => Number.isInteger(each) && each >= 0);
  return ids.length === 0 ? null : ids;
}
