import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { fitOf, modelsThatFit } from "../../../../src/cli/output/html/first-screen.ts";
import { html, scriptJson } from "../../../../src/cli/output/html/markup.ts";
import { renderReport } from "../../../../src/cli/output/html/report.ts";
import { viewReport } from "../../../../src/cli/output/html/report-view.ts";
import { dedupeValue, lowRankPair } from "./dedupe-value.ts";

const MADE_AT = new Date("2026-01-02T03:04:05Z");
const DESK = { base: "ABCDEF", copy: "ABCDEF", legal: "AbcDeF", alone: "123456" };

describe("the page", () => {
  it("says what is saved, in words", () => {
    const page = renderReport(dedupeValue(DESK), { madeAt: MADE_AT });
    const words = page.replaceAll(/\s+/g, " ");
    expect(words).toContain("4 models of 24.0 MB together are kept in <strong>15.0 MB</strong>: 37.5 % less.");
    expect(words).toContain("It costs no quality");
    expect(words).toContain("15.0 MB in one server for all models, instead of 24.0 MB in one deployment per model.");
    expect(words).toContain("2026-01-02 03:04 UTC");
  });

  it("allows its own style and script by digest, and nothing else", () => {
    const page = renderReport(dedupeValue(DESK), { madeAt: MADE_AT });
    const policy = /Content-Security-Policy" content="([^"]*)"/.exec(page)![1]!.replaceAll("&#39;", "'");
    for (const tag of ["style", "script"]) {
      const [, text] = new RegExp(`<${tag}>(.*?)</${tag}>`, "s").exec(page)!;
      const hash = createHash("sha256").update(text!).digest("base64");
      expect(policy).toContain(`${tag}-src 'sha256-${hash}'`);
    }
    expect(policy).toMatch(/^default-src 'none'/);
    expect(page.match(/(?:src|href|action)="(?!#)|\son\w+=|\sstyle=/g)).toBeNull();
  });

  it("says when there is nothing", () => {
    expect(renderReport(dedupeValue({}), { madeAt: MADE_AT })).toContain("There are no models yet.");
  });

  it("says which gates were met", () => {
    const value = dedupeValue(DESK, { gate: { passed: false, fail_under: 3 } });
    const page = renderReport(value, { madeAt: MADE_AT }).replaceAll(/\s+/g, " ");
    expect(page).toContain('<td>at least 3</td> <td class="failed">failed</td>');
  });

  it("says what merges cost", () => {
    const value = dedupeValue(DESK);
    value.per_model[2]!.blocks[1]!.replaces = {
      tier: "equivalent",
      digest: `sha256:${"ab".repeat(32)}`,
      bytes: 1,
      kept: true,
      evidence: { kl: 0.0123, top1: 0.98, "<u>": "<i>" },
    };
    const page = renderReport(value, { madeAt: MADE_AT }).replaceAll(/\s+/g, " ");
    expect(page).toContain("KL divergence at most 0.0123, the same first choice for at least 98 % of tokens");
    expect(page).not.toContain("It costs no quality");
    expect(page.match(/<u>|<i>/g)).toBeNull();
  });
});

describe("what merging blocks that behave alike costs", () => {
  const drift = {
    prompts: 10,
    tokens: 100,
    kl: 0.01,
    kl_answers: 0.015,
    kl_worst: 1,
    probability_cosine: 1,
    top1: 0.98,
    top1_answers: 0.97,
  };
  const accuracy = {
    asked: 50,
    before: 1,
    after: 0.94,
    before_interval: [0.93, 1] as [number, number],
    after_interval: [0.838, 0.979] as [number, number],
    difference_interval: [-0.162, 0.02] as [number, number],
  };
  const equivalent = {
    calibration: { digest: `sha256:${"ef".repeat(32)}` as const, lines: 60 },
    budget: { max_kl: 0.02, threshold: 0.9 },
    compared: 8,
    measured: 5,
    pairs: [],
    refused: [],
    models: [{ model: "legal", repeated_prompts: 0, merged_blocks: 2, choosing: drift, held_out: drift, accuracy }],
    left_out: [{ model: "<alone>", reason: "it is marked exact only" }],
    tier: { blocks: 2, saved_bytes: 2e6 },
  };

  it("says so in words, with how sure that is", () => {
    const page = renderReport(dedupeValue(DESK, { equivalent }), { madeAt: MADE_AT }).replaceAll(/\s+/g, " ");
    expect(page).toContain("What merging blocks that behave alike would cost");
    expect(page).toContain("<b>legal</b> loses most: 100.0 % right answers before, 94.0 % after.");
    expect(page).toContain("the change lies between -16.2 and 2.0 points");
    expect(page).toContain('<td class="number">94.0 % (83.8 to 97.9)</td>');
    expect(page).toContain("&lt;alone&gt; (it is marked exact only)");
    expect(page).toContain("2 blocks by others that behave alike (2.00 MB)");
  });

  it("says why it was not looked for", () => {
    const value = dedupeValue(DESK);
    value.tiers.equivalent = { blocks: 0, saved_bytes: 0, unavailable: "no prompts" };
    expect(renderReport(value, { madeAt: MADE_AT })).toContain("They were not looked for: no prompts.");
  });
});

describe("hostile text", () => {
  const HOSTILE = [
    "</script><img src=x onerror=alert(1)>",
    "<!--<script>",
    '"><svg onload=alert(1)>',
    "'--></style><script>alert(1)</script>",
    "]]>&lt;\u2028",
  ];

  it.each(HOSTILE)("%j stays text wherever a value goes", (text) => {
    const value = dedupeValue({ [text]: "ABCD", base: "ABCD", other: "abcd" });
    value.pairs.push({ ...lowRankPair(text, text, 0), b: "other", a: text });
    value.per_model[1]!.blocks[1]!.replaces = {
      tier: "equivalent",
      digest: `sha256:${"ab".repeat(32)}`,
      bytes: 1,
      kept: true,
      evidence: { [text]: text },
    };
    const page = renderReport(value, { madeAt: MADE_AT });
    expect(page.match(/<script/g)).toHaveLength(2);
    expect(page.match(/<\/script/g)).toHaveLength(2);
    expect(page.match(/<img|<svg onload|<!--/g)).toBeNull();
  });

  it("is escaped and read back as it was", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        expect(html`${text}`.text).not.toMatch(/[<>"']/);
        expect(scriptJson({ text }).text).not.toContain("<");
        expect(JSON.parse(scriptJson({ text }).text)).toEqual({ text });
      }),
    );
  });
});

describe("the map", () => {
  it("says of every block how it is kept", () => {
    const value = dedupeValue(DESK);
    value.pairs.push(lowRankPair("base", "legal", 0));
    value.per_model[3]!.blocks[5]!.shared_tensor_bytes = 900_000;
    value.per_model[3]!.blocks[4]!.residual_saved_bytes = 100;
    value.per_model[1]!.blocks[2]!.adapter = { digest: `sha256:${"cd".repeat(32)}`, bytes: 10 };
    const { models, columns } = viewReport(value);
    expect(columns.map(({ label }) => label)).toEqual([
      "embedding",
      "attention of layer 0",
      "MLP of layer 0",
      "attention of layer 1",
      "MLP of layer 1",
      "head",
    ]);
    const ways = Object.fromEntries(models.map(({ name, cells }) => [name, cells.map(({ way }) => way)]));
    expect(ways["base"]).toEqual(Array(6).fill("exact"));
    expect(ways["copy"]).toEqual(["exact", "exact", "lowrank", "exact", "exact", "exact"]);
    expect(ways["legal"]).toEqual(["exact", "lowrank-possible", "own", "exact", "own", "exact"]);
    expect(ways["alone"]).toEqual(["own", "own", "own", "own", "residual", "tensors"]);
  });

  it("has a place for blocks of models of other shapes", () => {
    const value = dedupeValue({ small: "ABCD", large: "ABCDEF" });
    value.per_model[0]!.blocks = [{ ...value.per_model[0]!.blocks[0]!, kind: "opaque" }];
    const { models, columns } = viewReport(value);
    expect(columns.at(-1)!.label).toBe("whole model");
    expect(models[0]!.cells).toMatchObject([{ column: columns.length - 1, half: "whole" }]);
    expect(models[1]!.cells.map(({ column }) => column)).toEqual([0, 1, 2, 3, 4, 5]);
  });
});

describe("how many models fit", () => {
  it("holds the models of the report in the memory they take", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 2, max: 50 }),
        fc.integer({ min: 1, max: 1e6 }),
        fc.double({ min: 0, max: 0.99, noNaN: true }),
        (count, one, share) => {
          const separate_bytes = count * one;
          const shared_bytes = one + (count - 1) * one * share;
          const fit = fitOf({
            shared_bytes,
            separate_bytes,
            sessions: 1,
            cuts: [],
            per_model: Array.from({ length: count }, (_, at) => ({ name: String(at), bytes: one })),
          })!;
          expect(modelsThatFit(fit, separate_bytes).apart).toBe(count);
          const { together } = modelsThatFit(fit, shared_bytes * (1 + 1e-9));
          if (share > 1e-6) expect(together).toBe(count);
          expect(modelsThatFit(fit, one / 2)).toEqual({ apart: 0, together: 0 });
        },
      ),
    );
  });

  it("says nothing where nothing is shared", () => {
    expect(fitOf(dedupeValue({ a: "ABCD", b: "abcd" }).serving)).toBeNull();
    expect(fitOf(dedupeValue({ a: "ABCD" }).serving)).toBeNull();
  });
});
