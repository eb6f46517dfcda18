import type { Dedupe } from "../../commands/dedupe.ts";
import { formatCount, formatNumber } from "../format.ts";
import { html, type Markup } from "./markup.ts";
import { nameBlock } from "./report-view.ts";

/** What sharing costs in quality, as short and as long as it can be said. */
export interface QualityWords {
  sentence: string;
  figure: string;
  text: Markup | string;
}

interface Replaced {
  model: string;
  place: string;
  tier: string;
  kept: boolean;
  evidence: Record<string, number | string>;
}

export function describeQuality(value: Dedupe): QualityWords {
  const replaced = replacedBlocks(value);
  if (replaced.length === 0) {
    return {
      sentence: "It costs no quality: every model computes with exactly its own weights.",
      figure: "Unchanged",
      text: "Only identical blocks are shared. Nothing that changes an answer has been applied.",
    };
  }
  const models = new Set(replaced.map(({ model }) => model)).size;
  return {
    sentence: `${formatCount(replaced.length, "block")} of ${formatCount(models, "model")} run with another block in their place; what that costs is measured below.`,
    figure: `${formatCount(models, "model")} changed`,
    text: html`${formatCount(replaced.length, "block")} stand in for others; ${extremes(replaced)}.
      <a href="#quality">Measured per block</a>.`,
  };
}

/** Every block that another one stands in for, with what was measured before that was accepted. */
export function renderQuality(value: Dedupe): Markup | null {
  const replaced = replacedBlocks(value);
  if (replaced.length === 0) return null;
  const names = [...new Set(replaced.flatMap(({ evidence }) => Object.keys(evidence)))];
  const rows = replaced.map(
    ({ model, place, tier, kept, evidence }) =>
      html`<tr>
        <th scope="row">${model}</th>
        <td>${place}</td>
        <td>${tier}</td>
        ${names.map((name) => html`<td class="number">${show(evidence[name])}</td>`)}
        <td>${kept ? "yes" : "no"}</td>
      </tr>`,
  );
  return html`<section id="quality">
    <h2>What the merges cost</h2>
    <div class="scroll">
      <table>
        <thead>
          <tr>
            <th scope="col">model</th>
            <th scope="col">block</th>
            <th scope="col">tier</th>
            ${names.map((name) => html`<th scope="col">${name.replaceAll("_", " ")}</th>`)}
            <th scope="col">can be undone</th>
          </tr>
        </thead>
        <tbody>
          ${rows}
        </tbody>
      </table>
    </div>
  </section>`;
}

function replacedBlocks({ per_model }: Dedupe): Replaced[] {
  return per_model.flatMap(({ name, blocks }) =>
    blocks.flatMap(({ kind, layer, replaces }) =>
      replaces ? [{ model: name, place: nameBlock(kind, layer), ...replaces }] : [],
    ),
  );
}

function extremes(replaced: Replaced[]): string {
  const numbers = (name: string) =>
    replaced.flatMap(({ evidence }) => (typeof evidence[name] === "number" ? [evidence[name]] : []));
  const kl = numbers("kl");
  const top1 = numbers("top1");
  const parts = [
    ...(kl.length > 0 ? [`KL divergence at most ${formatNumber(Math.max(...kl))}`] : []),
    ...(top1.length > 0
      ? [`the same first choice for at least ${formatNumber(100 * Math.min(...top1))} % of tokens`]
      : []),
  ];
  return parts.length > 0 ? parts.join(", ") : "what was measured is with each of them";
}

function show(value: number | string | undefined): string {
  return typeof value === "number" ? formatNumber(value) : (value ?? "");
}
