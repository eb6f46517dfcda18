import type { Tokenizer } from "./tokenizer.ts";

/** What an incomplete character decodes to; also a character that a model may write itself. */
const REPLACEMENT = "\uFFFD";

/** Tokens kept while their text does not end on a whole character. A character has at most four bytes. */
const PENDING_LIMIT = 16;

/**
 * Tokens in, text out as soon as it is certain. All pieces joined are `tokenizer.decode(all tokens)`, and a character
 * whose bytes come in several tokens is given out whole.
 *
 * It decodes a short window that starts one token before what is still pending: decoders look back at most one token
 * (a leading space is dropped only at the start of a text), and never ahead further than the character's last byte.
 */
export class StreamDecoder {
  readonly #tokenizer: Tokenizer;
  #window: number[] = [];
  /** How much of the window's text has been given out. */
  #given = 0;

  constructor(tokenizer: Tokenizer) {
    this.#tokenizer = tokenizer;
  }

  /** The text that this token makes certain; often "" in the middle of a character. */
  push(token: number): string {
    if (this.#tokenizer.isSilent(token)) return "";
    this.#window.push(token);
    const text = this.#tokenizer.decode(this.#window);
    // An unfinished character shows as exactly one replacement character, the last one. Those before it are final.
    const whole = !text.endsWith(REPLACEMENT);
    const ready = whole ? text.length : text.length - 1;
    const piece = text.slice(this.#given, ready);
    this.#given = Math.max(this.#given, ready);
    if (whole) this.#restart(this.#window.slice(-1), 0);
    else if (this.#window.length > PENDING_LIMIT) this.#forgetSettled(text);
    return piece;
  }

  /** What was held back: the rest of the text, now that no token follows. */
  finish(): string {
    const rest = this.#tokenizer.decode(this.#window).slice(this.#given);
    this.#window = [];
    this.#given = 0;
    return rest;
  }

  #restart(window: number[], held: number): void {
    this.#window = window;
    this.#given = this.#tokenizer.decode(window).length - held;
  }

  /**
   * A model that writes nothing but broken bytes would make the window, and so the work per token, grow without end.
   * Where the window's text is the text of its two halves, the cut splits no character.
   */
  #forgetSettled(text: string): void {
    for (let cut = this.#window.length - 2; cut >= this.#window.length - 6; cut--) {
      const settled = this.#tokenizer.decode(this.#window.slice(0, cut));
      const pending = this.#window.slice(cut);
      if (settled + this.#tokenizer.decode(pending) === text) return this.#restart(pending, 1);
    }
  }
}
