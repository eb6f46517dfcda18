import type { EngineClient } from "../engine/engine-client.ts";
import { openRepository } from "../store/open-repository.ts";
import { loadTextModels } from "../text/load-text-model.ts";
import type { TextModel } from "../text/text-model.ts";

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
  const names = wanted === "all" ? (await repository.listModels()).map(({ name }) => name) : wanted;
  const models = await Promise.all(names.map(async (name) => repository.readModel(name)));
  const texts = await loadTextModels(repository, new Map(models.map(({ name, document }) => [name, document])));
  await engine.changeModels(models.map(({ name }) => name));
  return texts;
}
