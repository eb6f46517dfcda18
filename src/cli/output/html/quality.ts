import type { Dedupe } from "../../commands/dedupe.ts";
import { formatCount, formatNumber, shortDigest } from "../format.ts";
import { html, type Markup } from "./markup.ts";
import { scrollingTable } from "./table.ts";
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
  const alike = replaced.filter(({ tier }) => tier === "equivalent");
  if (replaced.length === 0) {
    return {
      sentence: "It costs no quality: every model computes with exactly its own weights.",
      figure: "Unchanged",
      text: "Only identical blocks are shared. Nothing that changes an answer has been applied.",
    };
  }
  if (alike.length === 0) {
    const error = Math.max(0, ...numbersOf(replaced, "relative_error"));
    const rounding = `equal to rounding: an error of ${formatNumber(error)} at most, relative to the weights`;
    return {
      sentence: `Merged LoRAs of ${countModels(replaced)} run as factors over shared blocks, ${rounding}.`,
      figure: "Rounding",
      text: html`${formatCount(replaced.length, "block")} as factors, ${rounding}. <a href="#quality">Per block</a>.`,
    };
  }
  return {
    sentence: `${formatCount(alike.length, "block")} of ${countModels(alike)} gave way to others that behave alike; what that costs is measured below.`,
    figure: `${countModels(alike)} changed`,
    text: html`${formatCount(alike.length, "block")} stand in for others; ${extremes(alike)}.
      <a href="#quality">Measured per block</a>.`,
  };
}

function countModels(replaced: Replaced[]): string {
  return formatCount(new Set(replaced.map(({ model }) => model)).size, "model");
}

function numbersOf(replaced: Replaced[], name: string): number[] {
  return replaced.flatMap(({ evidence }) => (typeof evidence[name] === "number" ? [evidence[name]] : []));
}

/** Per model and tier, what was measured before blocks were accepted in the place of others: the worst of them. */
export function renderQuality(value: Dedupe): Markup | null {
  const replaced = replacedBlocks(value);
  if (replaced.length === 0) return null;
  const names = [...new Set(replaced.flatMap(({ evidence }) => Object.keys(evidence)))];
  const groups = new Map<string, Replaced[]>();
  for (const block of replaced) {
    const key = JSON.stringify([block.model, block.tier]);
    groups.set(key, [...(groups.get(key) ?? []), block]);
  }
  const rows = Array.from(groups.values(), (blocks) => {
    const kept = blocks.filter((block) => block.kept).length;
    const cells = [
      blocks[0]!.tier,
      blocks.length,
      ...names.map((name) => worstOf(blocks, name)),
      kept === blocks.length ? "yes" : kept === 0 ? "no" : `${kept} of them`,
    ];
    return html`<tr>
      <th scope="row">${blocks[0]!.model}</th>
      ${cells.map((cell) => html`<td class="number">${cell}</td>`)}
    </tr>`;
  });
  const heads = ["model", "tier", "blocks", ...names.map((name) => name.replaceAll("_", " ")), "can be undone"];
  return html`<section id="quality">
    <h2>What the merges cost</h2>
    <p class="note">The worst of each model's blocks; every block of the map has its own.</p>
    ${scrollingTable(heads, rows)}
  </section>`;
}

/** Of agreement the least, of everything else the most; words only where all blocks have the same. */
function worstOf(blocks: Replaced[], name: string): string {
  const values = blocks.flatMap(({ evidence }) => evidence[name] ?? []);
  const numbers = values.filter((value) => typeof value === "number");
  if (numbers.length > 0) return formatNumber(/top1|cosine/.test(name) ? Math.min(...numbers) : Math.max(...numbers));
  const words = [...new Set(values.map(String))];
  return words.length === 1 ? shortWord(words[0]!) : "";
}

/** A digest by its beginning. */
function shortWord(word: string): string {
  return word.startsWith("sha256:") ? shortDigest(word) : word;
}

function replacedBlocks({ per_model }: Dedupe): Replaced[] {
  return per_model.flatMap(({ name, blocks }) =>
    blocks.flatMap(({ kind, layer, replaces }) =>
      replaces ? [{ model: name, place: nameBlock(kind, layer), ...replaces }] : [],
    ),
  );
}

function extremes(replaced: Replaced[]): string {
  const kl = numbersOf(replaced, "kl");
  const top1 = numbersOf(replaced, "top1");
  const parts = [
    ...(kl.length > 0 ? [`KL divergence at most ${formatNumber(Math.max(...kl))}`] : []),
    ...(top1.length > 0
      ? [`the same first choice for at least ${formatNumber(100 * Math.min(...top1))} % of tokens`]
      : []),
  ];
  return parts.length > 0 ? parts.join(", ") : "what was measured is with each of them";
}
