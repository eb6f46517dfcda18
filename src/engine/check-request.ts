import { BlockllmError } from "../support/errors.ts";
import type { EngineRequest, ServedModel } from "./request.ts";

/** Throws model_not_found, request_invalid or context_length_exceeded for what no engine could serve. */
export function checkRequest(request: EngineRequest, models: readonly ServedModel[]): ServedModel {
  const model = models.find(({ name }) => name === request.model);
  if (!model) {
    throw new BlockllmError(
      "model_not_found",
      `The engine does not serve ${request.model}; it serves ${models.map(({ name }) => name).join(", ")}`,
    );
  }
  if (request.tokens.length === 0)
    throw new BlockllmError("request_invalid", "The prompt has no tokens; at least 1 is needed");
  const wrong = request.tokens.find((token) => !Number.isInteger(token) || token < 0 || token >= model.vocabSize);
  if (wrong !== undefined) {
    throw new BlockllmError(
      "request_invalid",
      `Token ${wrong} is not in the vocabulary of ${model.name}, 0 to ${model.vocabSize - 1}`,
    );
  }
  if (!Number.isInteger(request.maxTokens) || request.maxTokens < 1) {
    throw new BlockllmError("request_invalid", `maxTokens is ${request.maxTokens}; at least 1 is needed`);
  }
  if (request.tokens.length >= model.contextLength) {
    throw new BlockllmError(
      "context_length_exceeded",
      `The prompt has ${request.tokens.length} tokens; ${model.name} takes ${model.contextLength} in all, at least 1 of them generated`,
      {
        hint:
          model.contextBound === "memory" ? "shorten the prompt, or start with more --memory" : "shorten the prompt",
      },
    );
  }
  return model;
}
