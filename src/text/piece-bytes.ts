const BYTE_TOKEN = /^<0x([0-9A-Fa-f]{2})>$/;

/**
 * UTF-8 bytes of one token. Its text tells them, except where the token is part of a character: then its name does,
 * either `<0xE2>` (SentencePiece byte fallback) or in GPT-2's alphabet of one character per byte.
 */
export function pieceBytes(text: string, name: string): number[] {
  if (!text.includes("\uFFFD")) return [...Buffer.from(text, "utf8")];
  const byte = BYTE_TOKEN.exec(name)?.[1];
  if (byte !== undefined) return [Number.parseInt(byte, 16)];
  const bytes = Array.from(name, (character) => BYTE_OF_CHARACTER.get(character));
  return bytes.every((value) => value !== undefined) ? bytes : [...Buffer.from(text, "utf8")];
}

/** https://github.com/openai/gpt-2/blob/master/src/encoder.py, bytes_to_unicode: printable bytes are themselves, the others follow from U+0100. */
const BYTE_OF_CHARACTER = new Map<string, number>();
for (let byte = 0, next = 256; byte < 256; byte++) {
  const printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  BYTE_OF_CHARACTER.set(String.fromCodePoint(printable ? byte : next++), byte);
}
