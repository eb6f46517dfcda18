import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";

import { addModel } from "../src/store/add-model.ts";
import { applyTiers } from "../src/store/apply-tiers.ts";
import { openRepository } from "../src/store/open-repository.ts";
import { EIGHT_TENANTS, makeModels } from "./make-models.ts";
import { SMOLLM2_135M } from "./model-graph.ts";
import type { Precision } from "./model-linear.ts";
import { inWorkFolder } from "./work-folder.ts";

/** A model as its owner brought it. */
export interface PreparedModel {
  name: string;
  folder: string;
}

export interface EightTenants {
  folder: string;
  /** The same models as blocks, by the same names. */
  repository: string;
  models: PreparedModel[];
}

/**
 * The eight tenants of SmolLM2-135M shapes and the repository they were split into, merged LoRAs kept as factors. In
 * `prepared` they are made the first time and found from then on; without it they are in a folder below `parent` that
 * is removed afterwards.
 */
export async function withEightTenants<Result>(
  { precision, parent, prepared }: { precision: Precision; parent: string; prepared: string | undefined },
  work: (tenants: EightTenants) => Promise<Result>,
): Promise<Result> {
  if (prepared === undefined) {
    return await inWorkFolder(parent, async (folder) => await work(await makeTenants(folder, precision)));
  }
  const folder = join(prepared, precision);
  return await work(existsSync(join(folder, READY)) ? tenantsIn(folder) : await makeTenants(folder, precision));
}

const READY = "ready";

async function makeTenants(folder: string, precision: Precision): Promise<EightTenants> {
  const tenants = tenantsIn(folder);
  const models = await makeModels(join(folder, "models"), { shapes: SMOLLM2_135M, tenants: EIGHT_TENANTS, precision });
  const store = await openRepository(tenants.repository, { create: true });
  for (const model of models) {
    const { document } = await addModel(store, model.folder);
    if (document.opaque) throw new Error(`${model.name} was not cut: ${document.warnings.join("; ")}`);
  }
  const { lowrank } = await applyTiers(store, undefined, { tiers: ["lowrank"], keepOriginals: false });
  console.error(`${lowrank.blocks} blocks of merged LoRAs are kept as factors beside the base's`);
  await writeFile(join(folder, READY), "");
  return tenants;
}

function tenantsIn(folder: string): EightTenants {
  const names = EIGHT_TENANTS.map((_, tenant) => `tenant-${tenant}`);
  const models = names.map((name) => ({ name, folder: join(folder, "models", name) }));
  return { folder, repository: join(folder, "blocks"), models };
}
