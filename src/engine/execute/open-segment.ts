import type { InferenceSession, Tensor } from "onnxruntime-node";
import { firstRows, withEvenRows } from "./even-rows.ts";
import type { RowSharing } from "./row-sharing.ts";
import type { TableRows } from "./table-rows.ts";

/** A segment's session with the tables that it does without. */
export class OpenSegment {
  readonly sharing: RowSharing;
  readonly #session: InferenceSession;
  readonly #tables: TableRows;

  constructor({ session, tables }: { session: InferenceSession; tables: TableRows }, sharing: RowSharing) {
    this.#session = session;
    this.#tables = tables;
    this.sharing = sharing;
  }

  /** Tensors [1, rows] and [1, rows, width] by the segment's inputs; gives its outputs [1, rows, width]. */
  async run(feeds: Record<string, Tensor>): Promise<Record<string, Tensor>> {
    const count = Object.values(feeds)[0]!.dims[1]!;
    return this.sharing === 2 && count % 2 === 1
      ? firstRows(await this.#run(withEvenRows(feeds)), count)
      : await this.#run(feeds);
  }

  async close(): Promise<void> {
    this.closeTables();
    await this.#session.release();
  }

  /** Without its session: who frees may not fail, and one whose device is lost answers every call with an error. */
  closeTables(): void {
    this.#tables.close();
  }

  async #run(feeds: Record<string, Tensor>): Promise<Record<string, Tensor>> {
    return await this.#session.run(this.#tables.feed(feeds, this.#session.inputNames));
  }
}
