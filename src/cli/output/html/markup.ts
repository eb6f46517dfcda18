/** Text that is HTML already. Everything else becomes HTML by being escaped. */
export class Markup {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

type Insertion = string | number | Markup | null | false | readonly Insertion[];

/** HTML with values in it: every string is escaped, for text and for attributes in double quotes. */
export function html(parts: TemplateStringsArray, ...values: Insertion[]): Markup {
  return new Markup(parts.reduce((text, part, at) => text + insert(values[at - 1] ?? null) + part));
}

function insert(value: Insertion): string {
  if (value === null || value === false) return "";
  if (value instanceof Markup) return value.text;
  if (typeof value === "string") return escapeHtml(value);
  if (typeof value === "number") return String(value);
  return value.map(insert).join("");
}

const ENTITIES: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };

function escapeHtml(text: string): string {
  return text.replaceAll(/[&<>"']/g, (character) => ENTITIES[character]!);
}

/** A value inside a `<script type="application/json">`: no text in it can end the element or open a comment. */
export function scriptJson(value: unknown): Markup {
  return new Markup(JSON.stringify(value).replaceAll("<", String.raw`\u003c`));
}
