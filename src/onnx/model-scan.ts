import type { ExternalData } from "./external-data.ts";
import type { WireReader } from "./wire-reader.ts";

/** One reading of one model file: where it stands and what it has met, held against the limits. */
export interface ModelScan {
  wire: WireReader;
  external: ExternalData;
  /** Graphs that enclose the current position. */
  graphDepth: number;
  nodes: number;
  initializers: number;
}
