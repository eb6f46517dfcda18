import type { Segment } from "../../chain/plan.ts";
import type { Loadable } from "../execute/executor.ts";
import { deviceRunBytes, runBytes } from "./session-bytes.ts";

/** What runs of these segments compute in: one runs after the other, so it is needed once, by every model. */
export class Workspace implements Loadable {
  readonly key: string;
  readonly bytes: number;
  readonly isSpace = true;
  #isLoaded = false;

  constructor(bytes: number) {
    this.bytes = bytes;
    this.key = `workspace ${bytes}`;
  }

  /** Every run gives back what it took. */
  static onHost(segments: readonly Pick<Segment, "parts">[], maxBatchTokens: number): Workspace {
    return new Workspace(Math.max(0, ...segments.map((segment) => runBytes(segment, maxBatchTokens))));
  }

  static onDevice(segments: readonly Pick<Segment, "parts">[], maxBatchTokens: number): Workspace {
    return new Workspace(deviceRunBytes(segments, maxBatchTokens));
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
