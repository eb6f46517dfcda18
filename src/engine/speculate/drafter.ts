import type { EngineConfig } from "../engine-config.ts";
import { capacityFor, tokensWithin } from "../kv/capacity.ts";
import { pagesFor, PAGE_TOKENS, type PageLedger } from "../kv/page-ledger.ts";
import type { Work } from "../schedule/next-work.ts";
import { isDecode } from "../schedule/next-work.ts";
import type { Sequence } from "../sequence.ts";
import { LONGEST_DRAFT } from "./draft-length.ts";
import { lookUpDraft } from "./prompt-lookup.ts";
import { StepCost } from "./step-cost.ts";

/**
 * Adds drafts to decodes. They take only rows and pages that nobody wants in this step, so no one waits for them, and
 * only while they are measured to pay.
 */
export class Drafter {
  readonly #speculate: EngineConfig["speculate"];
  readonly #ledger: PageLedger;
  readonly #cost = new StepCost();

  constructor({ speculate }: EngineConfig, ledger: PageLedger) {
    this.#speculate = speculate;
    this.#ledger = ledger;
  }

  /** `budget`: rows left in the step. Pages of the drafts are claimed. */
  addDrafts(work: readonly Work[], budget: number): void {
    if (this.#speculate === "off") return;
    const rowCost = this.#cost.ofRow(work.reduce((sum, { count }) => sum + count, 0));
    let left = budget;
    for (const one of work) {
      if (left < 1) return;
      if (!isDecode(one.sequence) || !one.sequence.model.speculates) continue;
      one.draft = this.#draft(one.sequence, { left, rowCost });
      left -= one.draft.length;
    }
  }

  /** The executor took so long for this work. */
  observe(work: readonly Work[], seconds: number): void {
    if (this.#speculate !== "auto" || !work.every(({ stepwise }) => stepwise)) return;
    this.#cost.observe(
      work.reduce((sum, { count, draft }) => sum + count + draft.length, 0),
      seconds,
    );
  }

  #draft(sequence: Sequence, { left, rowCost }: { left: number; rowCost: number }): number[] {
    const { tokens, maxLength, drafting } = sequence;
    const worth = this.#speculate === "always" ? LONGEST_DRAFT : drafting.next(rowCost);
    // The last token is never fed, and the pass gives one token more than it drafts.
    // Within the capacity it has: a larger one would stay when the draft is refused.
    const room = sequence.model.byCapacity ? tokensWithin(capacityFor(tokens.length)) - tokens.length : Infinity;
    const length = Math.min(worth, left, room, maxLength - tokens.length - 1);
    return length < 1 ? [] : this.#claim(sequence, lookUpDraft(tokens, length));
  }

  /** As much of the draft as there are free pages for. */
  #claim(sequence: Sequence, draft: number[]): number[] {
    if (draft.length === 0) return draft;
    const claim = sequence.claimFor(sequence.tokens.length + draft.length);
    if (!this.#ledger.canClaim(claim)) {
      const { tokens: known } = sequence.claimFor(sequence.tokens.length);
      return draft.slice(0, pagesFor(known) * PAGE_TOKENS - known);
    }
    this.#ledger.claim(claim);
    return draft;
  }
}
