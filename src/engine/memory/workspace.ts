import type { Segment } from "../../chain/plan.ts";
import type { Loadable } from "../execute/executor.ts";
import { runBytes } from "./session-bytes.ts";

/** What runs of these segments compute in: one runs after the other, so it is needed once, by every model. */
export class Workspace implements Loadable {
  readonly key: string;
  readonly bytes: number;
  readonly isSpace = true;
  #isLoaded = false;

  constructor(segments: readonly Pick<Segment, "parts">[], maxBatchTokens: number) {
    this.bytes = Math.max(0, ...segments.map((segment) => runBytes(segment, maxBatchTokens)));
    this.key = `workspace ${this.bytes}`;
  }

  get isLoaded(): boolean {
    return this.#isLoaded;
  }

  load(): Promise<void> {
    this.#isLoaded = true;
    return Promise.resolve();
  }

  unload(): Promise<void> {
    this.#isLoaded = false;
    return Promise.resolve();
  }
}
