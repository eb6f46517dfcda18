import type { ChainPart } from "../../chain/chain.ts";
import { liftTables } from "../../chain/lift-tables.ts";
import type { Segment } from "../../chain/plan.ts";
import type { BlockSource } from "../../chain/resolve-chain.ts";
import { readPart } from "../execute/read-segment.ts";
import { sessionBytes } from "./session-bytes.ts";

/** Memory that a segment's session takes at most while it does not run: sessionBytes without the tables that stay on disk. */
export async function segmentBytes(
  { parts, adapters }: Pick<Segment, "parts" | "adapters">,
  source: BlockSource,
): Promise<number> {
  const held = await Promise.all(parts.map(async (part) => withoutTables(part, source)));
  return sessionBytes({ parts: held, adapters });
}

/** A table that lies as a residual is rebuilt in memory, as any weight. */
async function withoutTables(part: ChainPart, source: BlockSource): Promise<ChainPart> {
  if (!part.inputs.some(({ name }) => name === "ids" || name === "positions")) return part;
  const { initializers } = liftTables(await readPart(part, source)).model.graph;
  const inside = await Promise.all(
    part.tensors.map(async ({ name, digest }) => initializers.has(name) || !(await source.blobs.has(digest))),
  );
  return { ...part, tensors: part.tensors.filter((_, at) => inside[at]) };
}
