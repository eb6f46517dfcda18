import type { Worker } from "node:worker_threads";
import { BlockllmError } from "../../../support/errors.ts";
import { scriptBeside } from "../../../support/script-beside.ts";
import { startWorker } from "../../../support/start-worker.ts";
import { unpackError } from "../../engine-messages.ts";
import type { WalkingSequence } from "../batch-walker.ts";
import type { BatchItem } from "../executor.ts";
import type { FromLane, LaneKey, LanePlan, LaneSegment, LaneStart, LentSequence, ToLane } from "./lane-messages.ts";

type Ran = Extract<FromLane, { type: "ran" | "failed" }>;

interface Waiter {
  resolve: (answer: FromLane) => void;
  reject: (error: Error) => void;
}

/** This thread's end of a lane: a thread that walks through whole steps with some of the sequences (lane-thread.ts). */
export class Lane {
  readonly #worker: Worker;
  /** Of messages that are answered, in their order. */
  readonly #waiters: Waiter[] = [];
  #failure: Error | null = null;
  #isEnding = false;

  constructor(start: LaneStart) {
    this.#worker = startWorker(scriptBeside(import.meta.url, "lane-thread"), start);
    this.#worker.on("message", (message: FromLane) => this.#waiters.shift()!.resolve(message));
    this.#worker.on("error", (error) => this.#fail(error));
    this.#worker.on("exit", () => this.#fail(new Error("The lane's thread ended")));
  }

  /** Its thread ended: nothing can be run in it any more. */
  get isLost(): boolean {
    return this.#failure !== null;
  }

  /** Its packed files may go when this is done. Errors: ONNX Runtime's. */
  async open(segment: LaneSegment): Promise<void> {
    const { error } = (await this.#ask({ type: "open", segment })) as FromLane & { type: "opened" };
    if (error) throw unpackError(error);
  }

  close(key: LaneKey): void {
    this.#tell({ type: "close", key });
  }

  /** For all runs that follow. */
  adopt(plan: LanePlan): void {
    this.#tell({ type: "adopt", plan });
  }

  /**
   * As BatchWalker.walk. The caches of all sequences are away meanwhile: nothing may touch them. Where the thread ends they
   * are lost, and empty.
   */
  async run(
    items: BatchItem[],
    { keys, sequenceOf }: { keys: readonly (LaneKey | null)[]; sequenceOf: (sequence: number) => WalkingSequence },
  ): Promise<Float32Array[]> {
    const walking = new Map(items.map(({ sequence }) => [sequence, sequenceOf(sequence)]));
    const caches = Array.from(walking.values(), ({ cache }) => cache);
    const sequences = Array.from(walking, ([sequence, { chain, cache }]): LentSequence => ({
      sequence,
      chain,
      buffers: cache.lend(),
    }));
    const message = { type: "run", keys, items: items.map(withoutFunctions), sequences } as const;
    const answer = await this.#askToRun(
      message,
      sequences.flatMap(({ buffers }) => buffers),
    );
    for (const [at, cache] of caches.entries()) cache.takeBack(answer instanceof Error ? null : answer.caches[at]!);
    if (answer instanceof Error) throw answer;
    if (answer.type === "failed") throw unpackError(answer.error);
    for (const { item, step, rows } of answer.kept) items[item]!.keepRows?.(step, rows);
    return answer.logits;
  }

  /** Frees its sessions and ends the thread. */
  async end(): Promise<void> {
    if (this.isLost) return;
    const ended = new Promise((resolve) => this.#worker.once("exit", resolve));
    this.#isEnding = true;
    this.#tell({ type: "end" });
    await ended;
  }

  #tell(message: ToLane, transfer: ArrayBuffer[] = []): void {
    this.#worker.postMessage(message, transfer);
  }

  async #askToRun(message: ToLane & { type: "run" }, transfer: ArrayBuffer[]): Promise<Ran | Error> {
    try {
      return (await this.#ask(message, transfer)) as Ran;
    } catch (error) {
      return error as Error;
    }
  }

  async #ask(message: ToLane, transfer: ArrayBuffer[] = []): Promise<FromLane> {
    if (this.#failure) throw this.#failure;
    return await new Promise((resolve, reject) => {
      this.#waiters.push({ resolve, reject });
      this.#tell(message, transfer);
    });
  }

  #fail(cause: Error): void {
    if (this.#failure) return;
    this.#failure = new BlockllmError("engine_failed", `A lane of the engine ended: ${cause.message}`, { cause });
    if (!this.#isEnding) process.emitWarning(`${this.#failure.message}; the others go on without it`);
    for (const { reject } of this.#waiters.splice(0)) reject(this.#failure);
  }
}

/** They cannot go to another thread. */
function withoutFunctions(item: BatchItem): BatchItem {
  const plain = { ...item };
  delete plain.keepRows;
  return plain;
}
