import type { Dedupe } from "../../commands/dedupe.ts";
import { html, type Markup } from "./markup.ts";

/** Limits that were asked for, and whether they were met; nothing where none was. */
export function renderGates({ gate, ratio }: Dedupe): Markup | null {
  if (gate === undefined) return null;
  const rows = [
    {
      what: "ratio of logical to stored bytes",
      value: ratio.toFixed(2),
      limit: `at least ${gate.fail_under}`,
      passed: gate.passed,
    },
  ];
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
        ${rows.map(
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
