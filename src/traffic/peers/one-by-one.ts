/** Lets one in at a time, in the order in which they came. */
export class OneByOne {
  #last: Promise<unknown> = Promise.resolve();

  async run<Value>(work: () => Promise<Value>): Promise<Value> {
    const turn = this.#last.then(work);
    this.#last = turn.catch(() => {});
    return await turn;
  }
}
