import type { RotarySpec } from "../../blocks/block.ts";
import { rotaryRows, type RotaryRows, type RotaryTable } from "../../chain/rotary-rows.ts";
import { countRows, gatherRows, joinRanges, type RowRange } from "./row-store.ts";

/** The cos and sin rows of one step: made once per specification for the whole flat batch. */
export class RotaryBatch {
  readonly #positions: readonly number[];
  readonly #tables: ReadonlyMap<RotarySpec, RotaryTable>;
  readonly #made = new Map<RotarySpec, RotaryRows>();

  constructor(positions: readonly number[], tables: ReadonlyMap<RotarySpec, RotaryTable>) {
    this.#positions = positions;
    this.#tables = tables;
  }

  /** Rows for a segment's run. Chains that share its weights under different angles each get their own. */
  take(port: "cos" | "sin", uses: readonly { rotary: RotarySpec; rows: RowRange }[]): Float32Array {
    const [first] = uses;
    const width = first!.rotary.dim / 2;
    if (uses.every(({ rotary }) => rotary === first!.rotary)) {
      return gatherRows(this.#rows(first!.rotary)[port], width, joinRanges(uses.map((use) => use.rows)));
    }
    const gathered = new Float32Array(countRows(uses.map((use) => use.rows)) * width);
    let to = 0;
    for (const { rotary, rows } of uses) {
      gathered.set(gatherRows(this.#rows(rotary)[port], width, [rows]), to);
      to += rows.count * width;
    }
    return gathered;
  }

  #rows(rotary: RotarySpec): RotaryRows {
    const rows = this.#made.get(rotary) ?? rotaryRows(rotary, this.#positions, this.#tables.get(rotary) ?? null);
    this.#made.set(rotary, rows);
    return rows;
  }
}
