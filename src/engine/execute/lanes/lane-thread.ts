import { parentPort, workerData } from "node:worker_threads";
import { asEngineError } from "../../engine-error.ts";
import { packError, type PlainError } from "../../engine-messages.ts";
import { SequenceCache } from "../../kv/sequence-cache.ts";
import { AttentionCores } from "../attention-core.ts";
import { BatchWalker } from "../batch-walker.ts";
import type { BatchItem } from "../executor.ts";
import type { OpenSegment } from "../open-segment.ts";
import type { FromLane, KeptRows, LaneKey, LanePlan, LaneStart, LentSequence, ToLane } from "./lane-messages.ts";
import { openPacked } from "./packed-model.ts";

/** The thread of a lane: it owns sessions over packed weights, and borrows caches for one step at a time. lane.ts starts it. */
const { threads } = workerData as LaneStart;

const cores = new AttentionCores(threads);
const segments = new Map<LaneKey, OpenSegment>();
let plan: LanePlan | null = null;
let walker: BatchWalker | null = null;
let keys: readonly (LaneKey | null)[] = [];

let last: Promise<void> = Promise.resolve();
parentPort!.on("message", (message: ToLane) => {
  last = last.then(async () => handle(message));
});

async function handle(message: ToLane): Promise<void> {
  switch (message.type) {
    case "open":
      return post({ type: "opened", error: await open(message) });
    case "close":
      await segments.get(message.key)?.close();
      return void segments.delete(message.key);
    case "adopt":
      return await adopt(message.plan);
    case "run":
      return await run(message);
    case "end":
      for (const segment of segments.values()) await segment.close();
      await cores.close();
      return parentPort!.close();
  }
}

async function open({
  segment: { key, path, lifted, sharing },
}: ToLane & { type: "open" }): Promise<PlainError | null> {
  try {
    segments.set(key, await openPacked(path, { threads, lifted, sharing }));
    return null;
  } catch (error) {
    return packError(asEngineError(error));
  }
}

async function adopt(next: LanePlan): Promise<void> {
  await cores.load(next.cores.flat());
  const segmentOf = (id: number): OpenSegment => segments.get(keys[id]!)!;
  plan = next;
  walker = new BatchWalker({
    ...next,
    cores,
    sessions: {
      sharing: (id) => segmentOf(id).sharing,
      run: async (id, feeds) => await segmentOf(id).run(feeds),
    },
  });
}

async function run({ keys: current, items, sequences }: ToLane & { type: "run" }): Promise<void> {
  keys = current;
  const kept: KeptRows[] = [];
  const caches = sequences.map(({ buffers }) => buffers);
  try {
    const logits = await walk(items, sequences, kept);
    const rows = new Set(logits.map(({ buffer }) => buffer as ArrayBuffer));
    post({ type: "ran", logits, kept, caches }, [...caches.flat(), ...rows]);
  } catch (error) {
    post({ type: "failed", error: packError(asEngineError(error)), caches }, caches.flat());
  }
}

async function walk(items: BatchItem[], sequences: LentSequence[], kept: KeptRows[]): Promise<Float32Array[]> {
  const walking = new Map(
    sequences.map(({ sequence, chain, buffers }) => [
      sequence,
      { chain, cache: new SequenceCache(plan!.cores[chain]!, 0, buffers) },
    ]),
  );
  const keeping = items.map((item, at) => ({
    ...item,
    keepRows: (step: number, rows: Float32Array) => kept.push({ item: at, step, rows }),
  }));
  return await walker!.walk(keeping, (sequence) => walking.get(sequence)!);
}

function post(message: FromLane, transfer: ArrayBuffer[] = []): void {
  parentPort!.postMessage(message, transfer);
}
