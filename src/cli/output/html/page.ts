import { createHash } from "node:crypto";
import { html, Markup, scriptJson } from "./markup.ts";

/** How a report is told from any other file that should not be written over. */
export const REPORT_MARK = '<meta name="generator" content="blockllm report">';

export interface Page {
  title: string;
  heading: string;
  /** Under the heading: the command, and when it ran. */
  note: string;
  style: string;
  body: Markup;
  /** What runs in the page, and the data it finds in the element `data`; null: nothing runs. */
  script: { source: string; data: unknown } | null;
}

/**
 * One HTML page that needs nothing else: no network, no other file. Its script and style are named by their digests in
 * the page's own policy, so nothing else in it can run.
 */
export function renderPage({ title, heading, note, style, body, script }: Page): string {
  const runs = script === null ? "" : ` script-src '${hashOf(script.source)}';`;
  const policy = `default-src 'none'; style-src '${hashOf(style)}';${runs} base-uri 'none'; form-action 'none'`;
  return html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta http-equiv="Content-Security-Policy" content="${policy}" />
        ${new Markup(REPORT_MARK)}
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="color-scheme" content="light dark" />
        <title>${title}</title>
        ${new Markup(`<style>${style}</style>`)}
      </head>
      <body>
        <header>
          <h1>${heading}</h1>
          <p class="note">${note}</p>
        </header>
        <main>${body}</main>
        ${
          script !== null &&
          html`<script type="application/json" id="data">
            ${scriptJson(script.data)}
          </script>`
        }
        ${script !== null && new Markup(`<script>${script.source}</script>`)}
      </body>
    </html> `.text;
}

/** The moment a report was made, as its reader needs it. */
export function showMoment(moment: Date): string {
  return `${moment.toISOString().slice(0, 16).replace("T", " ")} UTC`;
}

function hashOf(text: string): string {
  return `sha256-${createHash("sha256").update(text).digest("base64")}`;
}
