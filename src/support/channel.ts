type Waiter<Value> = { resolve: (result: IteratorResult<Value, undefined>) => void; reject: (error: unknown) => void };

/**
 * A queue between one who pushes and one who reads with `for await`. What was pushed before the end is still read;
 * after `fail` the reader gets the error, once. Reading stops (`break`) without telling the pusher: use `onReturn`.
 */
export class Channel<Value> implements AsyncIterableIterator<Value, undefined> {
  readonly #queue: Value[] = [];
  readonly #onReturn: () => void;
  #end: { error: unknown } | "closed" | null = null;
  #waiter: Waiter<Value> | null = null;

  constructor(onReturn: () => void = () => {}) {
    this.#onReturn = onReturn;
  }

  /** Ignored after the end: the reader has already been told that nothing follows. */
  push(value: Value): void {
    if (this.#end !== null) return;
    const waiter = this.#takeWaiter();
    if (waiter) waiter.resolve({ value, done: false });
    else this.#queue.push(value);
  }

  close(): void {
    if (this.#end !== null) return;
    this.#end = "closed";
    this.#takeWaiter()?.resolve({ value: undefined, done: true });
  }

  fail(error: unknown): void {
    if (this.#end !== null) return;
    const waiter = this.#takeWaiter();
    this.#end = waiter ? "closed" : { error };
    waiter?.reject(error);
  }

  /** One reader at a time. */
  next(): Promise<IteratorResult<Value, undefined>> {
    if (this.#queue.length > 0) return Promise.resolve({ value: this.#queue.shift()!, done: false });
    if (this.#end === "closed") return Promise.resolve({ value: undefined, done: true });
    if (this.#end !== null) {
      const { error } = this.#end;
      this.#end = "closed";
      return Promise.reject(error);
    }
    if (this.#waiter) throw new Error("two readers of one channel");
    return new Promise((resolve, reject) => {
      this.#waiter = { resolve, reject };
    });
  }

  return(): Promise<IteratorResult<Value, undefined>> {
    this.#queue.length = 0;
    if (this.#end === null) {
      this.close();
      this.#onReturn();
    }
    this.#end = "closed";
    return Promise.resolve({ value: undefined, done: true });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #takeWaiter(): Waiter<Value> | null {
    const waiter = this.#waiter;
    this.#waiter = null;
    return waiter;
  }
}
