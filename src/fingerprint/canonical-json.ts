const encoder = new TextEncoder();

/**
 * One byte sequence per value (RFC 8785): keys sorted by UTF-16 code units, no white space, numbers as JavaScript
 * prints them. A digest of a document is worth nothing when the order in which its keys were set can change it.
 * Values must be plain JSON: `undefined` members are left out, NaN, infinities and class instances throw.
 */
export function canonicalJson(value: object): Uint8Array {
  return encoder.encode(write(value));
}

function write(value: unknown): string {
  if (value === null || typeof value === "boolean" || typeof value === "string") return JSON.stringify(value);
  if (typeof value === "number") return writeNumber(value);
  if (Array.isArray(value)) return `[${value.map(write).join(",")}]`;
  if (typeof value === "object" && isPlain(value)) return writeObject(value as Record<string, unknown>);
  throw new Error(`a document may hold only plain JSON values, not ${describe(value)}`);
}

function writeNumber(value: number): string {
  if (!Number.isFinite(value)) throw new Error(`a document cannot hold the number ${value}`);
  return JSON.stringify(value);
}

function writeObject(value: Record<string, unknown>): string {
  const members = Object.keys(value)
    .filter((key) => value[key] !== undefined)
    .toSorted()
    .map((key) => `${JSON.stringify(key)}:${write(value[key])}`);
  return `{${members.join(",")}}`;
}

function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

function describe(value: unknown): string {
  return typeof value === "object" ? (value?.constructor.name ?? "null") : typeof value;
}
