import type { Dedupe } from "../../commands/dedupe.ts";
import { formatNumber } from "../format.ts";
import { html, type Markup } from "./markup.ts";

/** Limits that were asked for, and whether they were met; nothing where none was. */
export function renderGates(dedupe: Dedupe): Markup | null {
  const verdicts = verdictsOf(dedupe);
  if (verdicts === null) return null;
  return html`<section>
    <h2>Gates</h2>
    <table>
      <thead>
        <tr>
          <th scope="col">gate</th>
          <th scope="col">measured</th>
          <th scope="col">asked for</th>
          <th scope="col">verdict</th>
        </tr>
      </thead>
      <tbody>
        ${verdicts.map(
          ({ what, value, limit, passed }) =>
            html`<tr>
              <th scope="row">${what}</th>
              <td class="number">${value}</td>
              <td>${limit}</td>
              <td class="${passed ? "passed" : "failed"}">${passed ? "passed" : "failed"}</td>
            </tr>`,
        )}
      </tbody>
    </table>
  </section>`;
}

interface Verdict {
  what: string;
  value: string;
  limit: string;
  passed: boolean;
}

function verdictsOf({ gate, ratio, equivalent }: Dedupe): Verdict[] | null {
  if (gate === undefined) return null;
  const { fail_under, max_kl, min_top1, unmeasured = [] } = gate;
  const drifts = (equivalent?.models ?? []).map(({ held_out }) => held_out);
  const verdicts: Verdict[] = [];
  if (fail_under !== undefined)
    verdicts.push({
      what: "ratio of logical to stored bytes",
      value: ratio.toFixed(2),
      limit: `at least ${fail_under}`,
      passed: ratio >= fail_under,
    });
  if (max_kl !== undefined) {
    const most = Math.max(0, ...drifts.flatMap(({ kl, kl_answers }) => [kl, kl_answers]));
    verdicts.push({
      what: "largest mean KL of a model from itself as split",
      value: formatNumber(most),
      limit: `at most ${max_kl}`,
      passed: most <= max_kl,
    });
  }
  if (min_top1 !== undefined) {
    const least = Math.min(1, ...drifts.flatMap(({ top1, top1_answers }) => [top1, top1_answers]));
    verdicts.push({
      what: "smallest share of the same likeliest token",
      value: formatNumber(least),
      limit: `at least ${min_top1}`,
      passed: least >= min_top1,
    });
  }
  if (unmeasured.length > 0)
    verdicts.push({
      what: "models merged without their originals: what that costs cannot be measured",
      value: unmeasured.join(", "),
      limit: "none",
      passed: false,
    });
  return verdicts;
}
