import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openRepository } from "../../src/store/open-repository.ts";
import type { Repository } from "../../src/store/repository.ts";
import { putTinyModel, type TinyModel } from "./tiny-model.ts";

export interface TemporaryRepository {
  repository: Repository;
  folder: string;
  remove(): Promise<void>;
}

/** A repository of tiny models in a folder of its own. */
export async function temporaryRepository(models: TinyModel[]): Promise<TemporaryRepository> {
  const folder = await mkdtemp(join(tmpdir(), "blockllm-engine-"));
  const repository = await openRepository(folder, { create: true });
  for (const model of models) await putTinyModel(repository, model);
  return { repository, folder, remove: async () => rm(folder, { recursive: true, force: true }) };
}
