import { existsSync, readdirSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { exportModel } from "../../chain/export-model.ts";
import type { Repository } from "../../store/repository.ts";

export interface ModelFolders {
  models: { name: string; folder: string }[];
  /** Names of those that were put together again from their blocks. */
  exported: string[];
  remove(): Promise<void>;
}

/**
 * A folder with the whole model for each name: the one of its name below `originals`, or else an export into a
 * temporary folder. An original with an adapter beside it is exported too: its graph alone is another model. Errors: as
 * exportModel.
 */
export async function modelFolders(
  repository: Repository,
  names: readonly string[],
  options: { originals: string | null; signal: AbortSignal; onExport: (name: string) => void },
): Promise<ModelFolders> {
  const temporary = await mkdtemp(join(tmpdir(), "blockllm-whole-"));
  const remove = async (): Promise<void> => await rm(temporary, { recursive: true, force: true });
  const models: ModelFolders["models"] = [];
  const exported: string[] = [];
  try {
    for (const [place, name] of names.entries()) {
      const original = options.originals === null ? null : originalFolder(options.originals, name);
      if (original === null) {
        options.onExport(name);
        await exportModel(repository, name, join(temporary, String(place)), { signal: options.signal });
        exported.push(name);
      }
      models.push({ name, folder: original ?? join(temporary, String(place)) });
    }
    return { models, exported, remove };
  } catch (error) {
    await remove();
    throw error;
  }
}

function originalFolder(originals: string, name: string): string | null {
  const folder = join(originals, name.replace(/:.*$/, ""));
  if (!existsSync(folder)) return null;
  return readdirSync(folder).some((file) => file.endsWith(".onnx_adapter")) ? null : folder;
}
