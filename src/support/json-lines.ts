const TOKEN = /\s*("(?:[^"\\]|\\.)*"|[[\]{}:,]|[^\s[\]{}:,"]+)/gy;

interface Container {
  /** The key or place of the value that is being read; null: a key comes next. */
  key: string | number | null;
}

/**
 * The line, counted from 1, on which the value at `path` of a JSON text begins; where there is none, of the value that
 * would hold it. The text must be JSON.
 */
export function lineOfValue(text: string, path: readonly PropertyKey[]): number {
  const open: Container[] = [];
  let best = { depth: -1, at: 0 };
  for (const match of text.matchAll(TOKEN)) {
    const token = match[1]!;
    const top = open.at(-1);
    if (token === "]" || token === "}") open.pop();
    else if (token === ",") {
      if (top) top.key = typeof top.key === "number" ? top.key + 1 : null;
    } else if (token !== ":") {
      if (top?.key === null) {
        top.key = JSON.parse(token) as string;
        continue;
      }
      const agreeing = open.every(({ key }, depth) => depth < path.length && key === path[depth]);
      if (agreeing && open.length > best.depth)
        best = { depth: open.length, at: match.index + match[0].length - token.length };
      if (token === "{") open.push({ key: null });
      if (token === "[") open.push({ key: 0 });
    }
  }
  return lineAt(text, best.at);
}

/** The line on which a text stops being JSON; the last one where it only wants more. */
export function lineOfSyntaxError(text: string): number {
  const open: string[] = [];
  let next: Expected = "value";
  let end = 0;
  for (const match of text.matchAll(TOKEN)) {
    const token = match[1]!;
    if (!PATTERNS[next].test(token)) return lineAt(text, match.index + match[0].length - token.length);
    end = match.index + match[0].length;
    if (/[[{]/.test(token)) open.push(token);
    if (/[\]}]/.test(token)) open.pop();
    next = after(token, next, open.at(-1));
  }
  const rest = text.slice(end);
  return lineAt(text, rest.trim() === "" ? text.trimEnd().length : end + rest.search(/\S/));
}

const PATTERNS = {
  value: /^(?:".*|[[{]|-?\d.*|true|false|null)$/s,
  "element or end": /^(?:".*|[[{\]]|-?\d.*|true|false|null)$/s,
  key: /^"/,
  "key or end": /^["}]/,
  colon: /^:$/,
  "comma or }": /^[,}]$/,
  "comma or ]": /^[,\]]$/,
  nothing: /^$/,
};
type Expected = keyof typeof PATTERNS;

/** What may follow a token that was expected as `was`; `inside`: the bracket that is open behind it. */
function after(token: string, was: Expected, inside: string | undefined): Expected {
  if (token === "{") return "key or end";
  if (token === "[") return "element or end";
  if (token === ",") return inside === "{" ? "key" : "value";
  if (was === "key" || (was === "key or end" && token !== "}")) return "colon";
  if (was === "colon") return "value";
  if (inside === undefined) return "nothing";
  return inside === "{" ? "comma or }" : "comma or ]";
}

function lineAt(text: string, at: number): number {
  return text.slice(0, at).split("\n").length;
}
