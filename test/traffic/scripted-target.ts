import { setTimeout as sleep } from "node:timers/promises";
import type { Question } from "../../src/traffic/questions.ts";
import type { Answer, NewTokens, Target } from "../../src/traffic/target.ts";

/** A target that answers each question after `milliseconds` with as many tokens as it may, or does what `script` does. */
export class ScriptedTarget implements Target {
  readonly models = [{ name: "a", contextLength: null, vocabulary: null }];
  readonly asked: Question[] = [];
  /** Most questions that were open at once. */
  most = 0;
  #open = 0;
  readonly #script: (question: Question, signal: AbortSignal, asked: number) => Promise<Answer | void>;

  constructor(script: (question: Question, signal: AbortSignal, asked: number) => Promise<Answer | void>) {
    this.#script = script;
  }

  async ask(question: Question, onTokens: (tokens: NewTokens) => void, signal: AbortSignal): Promise<Answer> {
    this.asked.push(question);
    this.most = Math.max(this.most, ++this.#open);
    try {
      const answer = await this.#script(question, signal, this.asked.length);
      for (let at = 0; at < question.maxTokens; at++) onTokens({ count: 1, ids: [question.index] });
      return answer ?? { reason: "length", promptTokens: question.prompt.length, completionTokens: question.maxTokens };
    } finally {
      this.#open--;
    }
  }

  memoryBytes(): number | null {
    return null;
  }

  processorSeconds(): number | null {
    return null;
  }

  holdings(): Promise<null> {
    return Promise.resolve(null);
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

export async function after(milliseconds: number, signal?: AbortSignal): Promise<void> {
  await sleep(milliseconds, undefined, signal === undefined ? {} : { signal });
}
