import type { TextModel } from "../text/text-model.ts";
import { BlockllmError } from "../support/errors.ts";
import type { ServedModel } from "../engine/request.ts";
import type { Engine } from "./served-engine.ts";
import { mayUse, withTag } from "./tenants/tenant-directory.ts";
import type { Caller } from "./tenants/tenant-directory.ts";

/** The models that the caller may use, in the engine's order. */
export function allowedModels(engine: Engine, caller: Caller): ServedModel[] {
  return engine.models.filter((model) => mayUse(caller, model.name));
}

/**
 * A model by the name a request gives; the tag may be left out where it is `latest`.
 * @throws `model_not_found`, also for a model the caller may not use: whether it exists is not the caller's business.
 */
export function findModel(engine: Engine, name: string, caller: Caller): ServedModel {
  const allowed = allowedModels(engine, caller);
  const model = allowed.find((candidate) => withTag(candidate.name) === withTag(name));
  if (model !== undefined) return model;
  const names = allowed.map((candidate) => candidate.name).join(", ");
  throw new BlockllmError("model_not_found", `the model "${name}" is not served here`, {
    hint: names === "" ? "No model is served to this key." : `Models: ${names}.`,
  });
}

/** @throws `tokenizer_missing` when the model came without a tokenizer. `what` is what needs one. */
export function requireText(texts: ReadonlyMap<string, TextModel>, model: ServedModel, what: string): TextModel {
  const text = texts.get(model.name);
  if (text !== undefined) return text;
  throw new BlockllmError(
    "tokenizer_missing",
    `the model "${model.name}" came without a tokenizer, and ${what} needs one`,
    {
      hint: "Send `prompt` as a list of token ids to /v1/completions, or split the model again with its tokenizer.json.",
    },
  );
}
