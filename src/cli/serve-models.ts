import type { EngineClient } from "../engine/engine-client.ts";
import { digestDocument } from "../fingerprint/digest.ts";
import { openRepository } from "../store/open-repository.ts";
import { BlockllmError } from "../support/errors.ts";
import { loadTextModels } from "../text/load-text-model.ts";
import type { TextModel } from "../text/text-model.ts";

/** A repository in which models are replaced faster than they can be read is asked again later. */
const ATTEMPTS = 5;

/**
 * Has the engine serve other models of the repository, and gives the texts of what it then serves in the same turn of the
 * event loop: no request meets one without the other. Errors: as EngineClient.changeModels and loadTextModels.
 */
export async function changeModels(
  engine: EngineClient,
  repositoryPath: string,
  wanted: readonly string[] | "all",
): Promise<ReadonlyMap<string, TextModel>> {
  const repository = await openRepository(repositoryPath);
  for (let attempt = 1; ; attempt++) {
    const names = wanted === "all" ? (await repository.listModels()).map(({ name }) => name) : wanted;
    const models = await Promise.all(names.map(async (name) => repository.readModel(name)));
    const texts = await loadTextModels(repository, new Map(models.map(({ name, document }) => [name, document])));
    // The engine reads the repository for itself, later: what was replaced meanwhile must not meet these texts.
    const documents = Object.fromEntries(models.map(({ name, document }) => [name, digestDocument(document)]));
    try {
      await engine.changeModels(
        models.map(({ name }) => name),
        { documents },
      );
      return texts;
    } catch (error) {
      const isLate = error instanceof BlockllmError && error.code === "model_changed";
      if (!isLate || attempt === ATTEMPTS) throw error;
    }
  }
}
