import type { BatchItem, Executor, Needs, StateRange } from "../../src/engine/execute/executor.ts";

export interface Script {
  vocabSize: number;
  bytesPerToken: number;
  /** The token that follows `history`: prompt and answer so far. */
  next: (history: readonly number[], model: string) => number;
}

/**
 * Plays tokens from a script: logits that are 1 at the scripted token and 0 elsewhere. It keeps what it was fed, and
 * refuses calls that a real executor could not serve, so engine and server are tested without ONNX Runtime.
 */
export class ScriptedExecutor implements Executor {
  needs: Needs;
  readonly #script: Script;
  readonly #sequences = new Map<number, { model: string; maxTokens: number; history: number[] }>();

  constructor(script: Script, needs: Needs = new Map()) {
    this.#script = script;
    this.needs = needs;
  }

  open(sequence: number, { model, maxTokens }: { model: string; maxTokens: number }): void {
    this.#sequences.set(sequence, { model, maxTokens, history: [] });
  }

  /** Tokens as numbers, and zeros up to the bytes a token takes. */
  readState(sequence: number, { from, to }: StateRange): Float32Array {
    const width = this.#script.bytesPerToken / 4;
    const state = new Float32Array((to - from) * width);
    const { history } = this.#sequences.get(sequence)!;
    history.slice(from, to).forEach((token, at) => (state[at * width] = token));
    return state;
  }

  writeState(sequence: number, { from, to }: StateRange, state: Float32Array): void {
    const { history } = this.#sequences.get(sequence)!;
    if (from !== history.length) throw new Error(`Sequence ${sequence} has ${history.length} tokens, not ${from}`);
    const width = this.#script.bytesPerToken / 4;
    for (let at = 0; at < to - from; at++) history.push(state[at * width]!);
  }

  truncate(sequence: number, tokens: number): void {
    const { history } = this.#sequences.get(sequence)!;
    if (tokens > history.length) throw new Error(`Sequence ${sequence} has ${history.length} tokens, not ${tokens}`);
    history.length = tokens;
  }

  release(sequence: number): void {
    this.#sequences.delete(sequence);
  }

  stateBytes(): number {
    return [...this.#sequences.values()].reduce(
      (sum, { history }) => sum + history.length * this.#script.bytesPerToken,
      0,
    );
  }

  execute(items: BatchItem[]): Promise<Float32Array[]> {
    return Promise.resolve(items.map((item) => this.#play(item)));
  }

  close(): Promise<void> {
    this.#sequences.clear();
    return Promise.resolve();
  }

  #play({ sequence, tokens, start, logits }: BatchItem): Float32Array {
    const state = this.#sequences.get(sequence);
    if (!state) throw new Error(`Sequence ${sequence} was not opened`);
    const missing = this.needs.get(state.model)?.find(({ isLoaded }) => !isLoaded);
    if (missing) throw new Error(`${state.model} runs without ${missing.key}`);
    if (start !== state.history.length)
      throw new Error(`Sequence ${sequence} has ${state.history.length} tokens, not ${start}`);
    if (start + tokens.length > state.maxTokens)
      throw new Error(`Sequence ${sequence} outgrows ${state.maxTokens} tokens`);
    const rows = tokens.map((token) => {
      state.history.push(token);
      return this.#script.next(state.history, state.model);
    });
    const asked = logits === "all" ? rows : logits === "last" ? rows.slice(-1) : [];
    return oneHotRows(asked, this.#script.vocabSize);
  }
}

function oneHotRows(tokens: number[], width: number): Float32Array {
  const rows = new Float32Array(tokens.length * width);
  tokens.forEach((token, row) => (rows[row * width + token] = 1));
  return rows;
}
