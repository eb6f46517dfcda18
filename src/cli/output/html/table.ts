import { html, type Markup } from "./markup.ts";

/** A table that scrolls by itself where the page is narrower. `rows`: `<tr>` each. */
export function scrollingTable(heads: readonly (string | Markup)[], rows: readonly Markup[]): Markup {
  return html`<div class="scroll">
    <table>
      <thead>
        <tr>
          ${heads.map((head) => html`<th scope="col">${head}</th>`)}
        </tr>
      </thead>
      <tbody>
        ${rows}
      </tbody>
    </table>
  </div>`;
}
