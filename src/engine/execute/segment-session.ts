import { InferenceSession, type Tensor } from "onnxruntime-node";
import { type LiftedTable, liftTables } from "../../chain/lift-tables.ts";
import { packProjections } from "../../chain/pack-projections.ts";
import type { Segment } from "../../chain/plan.ts";
import type { BlockSource } from "../../chain/resolve-chain.ts";
import { digestDocument } from "../../fingerprint/digest.ts";
import { BlockllmError } from "../../support/errors.ts";
import { reasonOf } from "../../support/reason.ts";
import type { EngineConfig } from "../engine-config.ts";
import { segmentBytes } from "../memory/segment-bytes.ts";
import { laneBytes, runBytes } from "../memory/session-bytes.ts";
import type { Loadable } from "./executor.ts";
import type { LaneKey } from "./lanes/lane-messages.ts";
import type { Lanes } from "./lanes/lanes.ts";
import { openPacked } from "./lanes/packed-model.ts";
import type { PlainGraph } from "./lanes/packer.ts";
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
  /** Who else runs the segments that lie in this machine's memory; default: nobody. */
  lanes?: Lanes | null;
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
  /** The same in lanes, over the same packed weights: what the first of them runs, and what the others know it by. */
  inLanes: { first: OpenSegment; key: LaneKey } | null;
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
    this.bytes = bytes + (place ? runBytes(segment, from.maxBatchTokens) : laneBytes(from.lanes?.planned ?? 1));
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
    if (loaded?.inLanes) this.#from.lanes!.close(loaded.inLanes.key);
    await loaded?.inLanes?.first.close();
    if (loaded?.place?.isLost()) loaded.open.closeTables();
    else await loaded?.open.close();
  }

  /** What lanes know it by; null: they cannot run it. */
  get laneKey(): LaneKey | null {
    return this.#loaded?.inLanes?.key ?? null;
  }

  /** As `run`, with a lane's threads. */
  async runInLane(feeds: Record<string, Tensor>): Promise<Record<string, Tensor>> {
    return await this.#loaded!.inLanes!.first.run(feeds);
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
    const { source, lanes } = this.#from;
    const { graph, lifted } = await plainGraph(this.#segment, source);
    if (lanes && !place) {
      try {
        return await this.#openInLanes(lanes, { graph, lifted });
      } catch (error) {
        lanes.noteLeftOut(labelOf(this.#segment), error);
      }
    }
    return { open: await this.#openPlain(graph, { lifted, place }), inLanes: null, place };
  }

  /** Errors: as Packer.pack, openPacked. */
  async #openInLanes(
    lanes: Lanes,
    { graph, lifted }: { graph: PlainGraph; lifted: readonly LiftedTable[] },
  ): Promise<Loaded> {
    const { path, remove } = await lanes.packer.pack(graph, this.bytes);
    const { sharing } = this;
    const key = nextKey++;
    const opened: OpenSegment[] = [];
    try {
      for (const threads of [this.#from.threads, lanes.threads])
        opened.push(await openPacked(path, { threads, lifted, sharing }));
      await lanes.open({ key, path, lifted, sharing });
      const [open, first] = opened as [OpenSegment, OpenSegment];
      return { open, inLanes: { first, key }, place: null };
    } catch (error) {
      lanes.close(key);
      for (const one of opened) await one.close();
      throw error;
    } finally {
      remove();
    }
  }

  async #openPlain(
    graph: PlainGraph,
    { lifted, place }: { lifted: readonly LiftedTable[]; place: SessionPlace | null },
  ): Promise<OpenSegment> {
    const { threads } = this.#from;
    const options = (within?: string): InferenceSession.SessionOptions =>
      place?.options(within) ?? runtimeOptions(threads, within);
    const tables = TableRows.open(lifted);
    try {
      const session =
        "path" in graph
          ? await InferenceSession.create(graph.path, options())
          : await openSession(graph.model, { folder: graph.folder, threads, options: options(graph.folder) });
      return new OpenSegment({ session, tables }, this.sharing);
    } catch (error) {
      tables.close();
      throw error;
    }
  }
}

let nextKey: LaneKey = 0;

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
async function plainGraph(
  segment: Segment,
  source: BlockSource,
): Promise<{ graph: PlainGraph; lifted: readonly LiftedTable[] }> {
  const { model: read, plain, folder } = await readSegment(segment, source);
  const { model: lean, lifted } = liftTables(read);
  const model = packProjections(lean);
  const isStored = plain.length === 1 && model === plain[0] && segment.parts[0]!.cut === undefined;
  return { graph: isStored ? { path: source.blobs.path(segment.parts[0]!.graph) } : { model, folder }, lifted };
}

export function cannotLoad(segment: Segment, cause: unknown): BlockllmError {
  return new BlockllmError("model_unsupported", `ONNX Runtime cannot load ${labelOf(segment)}: ${reasonOf(cause)}`, {
    hint: "blockllm check",
    cause,
  });
}

function labelOf({ parts }: Segment): string {
  return parts.map(({ label, graph }) => `${label} ${graph.slice(0, 19)}`).join(", ");
}
