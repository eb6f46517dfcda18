import type { BlockDocument, BlockKind, Digest } from "../blocks/block.ts";
import { hasOwnWeights } from "./mixed-block.ts";
import type { Repository, StoredModel } from "./repository.ts";
import { bucketOf } from "./sketch-blocks.ts";

/** A block of one or more models. */
export interface DistinctBlock {
  digest: Digest;
  kind: BlockKind;
  layer: number | null;
  document: BlockDocument;
  /** Every model that has it at this layer, in the report's order. */
  models: string[];
  /** Some model runs it with factors of its own: it is a base already. */
  isAdapted: boolean;
  /** Made of a base and a model's own weights (mixed-block.ts): no base, since the one it is made of is nearer to all. */
  isMixed: boolean;
}

/** Those that could be differences of each other: of one layer and kind, with equal shapes and types. Each digest once. */
export async function groupBlocks(repository: Repository, models: StoredModel[]): Promise<DistinctBlock[][]> {
  const groups = new Map<string, Map<Digest, DistinctBlock>>();
  for (const { name, document: model } of models) {
    for (const { digest, kind, layer, adapter, replaces } of model.chain) {
      const isMixed = hasOwnWeights(replaces);
      const isAdapted = adapter !== undefined && !isMixed;
      const document = await repository.readBlock(digest);
      const key = `${layer} ${bucketOf(document)}`;
      const group = groups.get(key) ?? new Map<Digest, DistinctBlock>();
      groups.set(key, group);
      const known = group.get(digest);
      if (known) {
        known.models.push(name);
        known.isAdapted ||= isAdapted;
        known.isMixed &&= isMixed;
      } else group.set(digest, { digest, kind, layer, document, models: [name], isAdapted, isMixed });
    }
  }
  return Array.from(groups.values(), (group) => [...group.values()]);
}
