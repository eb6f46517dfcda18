import { InferenceSession, type Tensor } from "onnxruntime-node";
import { liftTables } from "../../chain/lift-tables.ts";
import { packProjections } from "../../chain/pack-projections.ts";
import type { Segment } from "../../chain/plan.ts";
import type { BlockSource } from "../../chain/resolve-chain.ts";
import { digestDocument } from "../../fingerprint/digest.ts";
import { BlockllmError } from "../../support/errors.ts";
import type { EngineConfig } from "../engine-config.ts";
import { segmentBytes } from "../memory/segment-bytes.ts";
import { runBytes } from "../memory/session-bytes.ts";
import type { Loadable } from "./executor.ts";
import { OpenSegment } from "./open-segment.ts";
import { readPart, readSegment } from "./read-segment.ts";
import { openSession } from "./rebuilt-weights.ts";
import { rowSharingOf, type RowSharing } from "./row-sharing.ts";
import { runtimeOptions } from "./runtime-options.ts";
import { TableRows } from "./table-rows.ts";

/** How segments are loaded. */
export interface SessionSource {
  source: BlockSource;
  threads: number;
  maxBatchTokens: number;
  shareBatches?: EngineConfig["shareBatches"];
  /** Whether chains may get a session of their own for decoding alone (solo-sessions.ts). */
  solo?: "auto" | "off";
  /** Where a segment is to lie; default: this machine's memory, computed by its processor. */
  placed?: (segment: Segment) => SessionPlace;
}

export interface SessionPlace {
  /** Part of the session's key. */
  name: string;
  options(folder?: string): InferenceSession.SessionOptions;
  sharing: RowSharing;
  /** What a failed run says of the place; null: nothing. */
  diagnose(error: unknown): BlockllmError | null;
  /** Everything on it fails from now on: sessions are made anew in this machine's memory. */
  isLost(): boolean;
}

interface Loaded {
  open: OpenSegment;
  /** null: in this machine's memory. */
  place: SessionPlace | null;
}

/** The session of one segment. Weights are mapped from the repository's blobs, never read into JavaScript. */
export class SegmentSession implements Loadable {
  readonly key: string;
  readonly bytes: number;
  readonly sharing: RowSharing;
  readonly #segment: Segment;
  readonly #from: SessionSource;
  readonly #place: SessionPlace | null;
  #loaded: Loaded | null = null;

  private constructor(
    segment: Segment,
    from: SessionSource,
    { place, sharing, bytes }: { place: SessionPlace | null; sharing: RowSharing; bytes: number },
  ) {
    this.#place = place;
    this.key = sessionKey(segment, from);
    // On a device of its own it keeps what runs took.
    this.bytes = bytes + (this.#place ? runBytes(segment, from.maxBatchTokens) : 0);
    this.sharing = sharing;
    this.#segment = segment;
    this.#from = from;
  }

  /** Reads the graphs, not the weights. Errors: blob_missing, model_invalid. */
  static async open(segment: Segment, from: SessionSource): Promise<SegmentSession> {
    const place = from.placed?.(segment) ?? null;
    const parts = await Promise.all(segment.parts.map(async (part) => readPart(part, from.source)));
    const options = { threads: from.threads, always: from.shareBatches === "always" };
    const sharing = place ? place.sharing : await rowSharingOf(parts, options);
    return new SegmentSession(segment, from, { place, sharing, bytes: await segmentBytes(segment, from.source) });
  }

  get isLoaded(): boolean {
    return this.#loaded !== null;
  }

  async load(): Promise<void> {
    try {
      this.#loaded ??= await this.#load(this.#place?.isLost() ? null : this.#place);
    } catch (cause) {
      throw cause instanceof BlockllmError ? cause : cannotLoad(this.#segment, cause);
    }
  }

  async unload(): Promise<void> {
    const loaded = this.#loaded;
    this.#loaded = null;
    if (loaded?.place?.isLost()) loaded.open.closeTables();
    else await loaded?.open.close();
  }

  async run(feeds: Record<string, Tensor>): Promise<Record<string, Tensor>> {
    if (!this.#loaded) throw new Error(`Segment ${this.key} is run while it is not loaded`);
    if (this.#loaded.place?.isLost()) {
      this.#loaded.open.closeTables();
      this.#loaded = await this.#load(null);
    }
    const { open, place } = this.#loaded;
    try {
      return await open.run(feeds);
    } catch (error) {
      throw place?.diagnose(error) ?? error;
    }
  }

  async #load(place: SessionPlace | null): Promise<Loaded> {
    const opened = await openSegment(this.#segment, { ...this.#from, place });
    return { open: new OpenSegment(opened, this.sharing), place };
  }
}

/** Equal keys: sessions that compute the same in the same place. */
export function sessionKey(segment: Segment, { placed }: Pick<SessionSource, "placed">): string {
  const place = placed?.(segment);
  return place ? `${place.name} ${segmentKey(segment)}` : segmentKey(segment);
}

/** Equal keys: sessions over the same weights and factors, in the same order. */
export function segmentKey({ parts, adapters }: Segment): string {
  return digestDocument({ parts: parts.map(({ graph }) => graph), adapters });
}

/** A part that nothing is done to loads as the file it is; a model made in memory finds its weights in the same folder. */
async function openSegment(
  segment: Segment,
  { source, threads, place }: SessionSource & { place: SessionPlace | null },
): Promise<{ session: InferenceSession; tables: TableRows }> {
  const options = (within?: string): InferenceSession.SessionOptions =>
    place?.options(within) ?? runtimeOptions(threads, within);
  const { model: read, plain, folder } = await readSegment(segment, source);
  const { model: lean, lifted } = liftTables(read);
  const model = packProjections(lean);
  const tables = TableRows.open(lifted);
  try {
    if (plain.length === 1 && model === plain[0] && segment.parts[0]!.cut === undefined) {
      const path = source.blobs.path(segment.parts[0]!.graph);
      return { session: await InferenceSession.create(path, options()), tables };
    }
    return { session: await openSession(model, { folder, threads, options: options(folder) }), tables };
  } catch (error) {
    tables.close();
    throw error;
  }
}

export function cannotLoad(segment: Segment, cause: unknown): BlockllmError {
  const parts = segment.parts.map((part) => `${part.label} ${part.graph.slice(0, 19)}`).join(", ");
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new BlockllmError("model_unsupported", `ONNX Runtime cannot load ${parts}: ${reason}`, {
    hint: "blockllm check",
    cause,
  });
}
