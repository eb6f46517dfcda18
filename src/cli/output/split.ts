import type { BlockSharing } from "../../store/sharing.ts";
import { formatBytes, formatDuration } from "./format.ts";
import { renderTable } from "./table.ts";

/** The keys are the stable JSON of `split`. */
export interface Split {
  models: SplitModel[];
}

export interface SplitModel {
  name: string;
  digest: string;
  blocks: BlockSharing[];
  bytes: number;
  /** Bytes that no model had that was in the repository when this one was added. */
  unique_bytes: number;
  exporter: string;
  family: string;
  precision: string;
  opaque: boolean;
  warnings: string[];
  milliseconds: number;
}

export function printSplit({ models }: Split): string {
  const table = renderTable(
    [
      { head: "model" },
      { head: "blocks", align: "right" },
      { head: "size", align: "right" },
      { head: "new", align: "right" },
      { head: "already there", align: "right" },
      { head: "time", align: "right" },
    ],
    models.map(({ name, blocks, bytes, unique_bytes, opaque, milliseconds }) => [
      name,
      opaque ? "opaque" : blocks.length,
      formatBytes(bytes),
      formatBytes(unique_bytes),
      formatBytes(bytes - unique_bytes),
      formatDuration(milliseconds),
    ]),
  );
  const warnings = models.flatMap(({ name, warnings: spoken }) =>
    spoken.map((warning) => `warning: ${name}: ${warning}`),
  );
  return [table, ...warnings].join("\n");
}
