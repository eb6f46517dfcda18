import { StopStrings } from "./stop-strings.ts";
import { StreamDecoder } from "./stream-decoder.ts";
import type { Tokenizer } from "./tokenizer.ts";

/** One answer's tokens on their way to text: decoded as they come, cut at the stop strings. */
export class OutputText {
  readonly #decoder: StreamDecoder;
  readonly #stops: StopStrings;

  constructor(tokenizer: Tokenizer, stops: readonly string[]) {
    this.#decoder = new StreamDecoder(tokenizer);
    this.#stops = new StopStrings(stops);
  }

  /** True once a stop string was met: the answer is complete, further tokens are none of it. */
  get stopped(): boolean {
    return this.#stops.stopped;
  }

  /**
   * `decoded`: what the token adds to the text, before any cut; its length places the token in the text.
   * `text`: what may be shown now.
   */
  push(token: number): { decoded: string; text: string } {
    const decoded = this.#decoder.push(token);
    return { decoded, text: this.#stops.push(decoded) };
  }

  /** The rest, when no token follows. */
  finish(): string {
    const rest = this.#stops.push(this.#decoder.finish());
    return rest + this.#stops.finish();
  }
}
