import { BlockllmError } from "../support/errors.ts";
import { within } from "./within.ts";

/** Something that runs until it is done and can be told to end early. */
export interface Running {
  cancel(): void;
  done: Promise<void>;
}

/** What the server is answering right now, and whether it takes more. */
export class RunningRequests {
  readonly #running = new Set<Running>();
  #draining = false;

  get draining(): boolean {
    return this.#draining;
  }

  get count(): number {
    return this.#running.size;
  }

  /** @throws `server_draining` */
  requireOpen(): void {
    if (!this.#draining) return;
    throw new BlockllmError("server_draining", "the server is shutting down and takes no new requests", {
      hint: "Ask another instance, or try again when it is back.",
    });
  }

  add(request: Running): void {
    this.#running.add(request);
    void request.done.finally(() => this.#running.delete(request));
  }

  /** From now on nothing new; resolves when nothing runs. What is not done after `graceMs` is told to end early. */
  async drain(graceMs: number): Promise<void> {
    this.#draining = true;
    if ((await within(this.#allDone(), graceMs)) !== "late") return;
    for (const request of this.#running) request.cancel();
    await this.#allDone();
  }

  async #allDone(): Promise<void> {
    await Promise.all(Array.from(this.#running, (request) => request.done));
  }
}
