import type { CalibrationFile } from "../engine/evaluate/read-calibration.ts";
import { canonicalModelName } from "../store/model-name.ts";
import { BlockllmError } from "../support/errors.ts";

/** An option's text as a whole number from `least` to `most`, both included. */
export function wholeNumber(name: string, least: number, most = Number.MAX_SAFE_INTEGER): (text: string) => number {
  const range = most === Number.MAX_SAFE_INTEGER ? `of at least ${least}` : `from ${least} to ${most}`;
  return (text) => {
    const value = Number(text);
    if (/^-?\d+$/.test(text) && value >= least && value <= most) return value;
    throw wrongValue(name, text, `a whole number ${range}`);
  };
}

/** An option's text as a number from `least` to `most`, both included. */
export function realNumber(name: string, least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() !== "" && value >= least && value <= most) return value;
    throw wrongValue(name, text, `a number from ${least} to ${most}`);
  };
}

/** Comma-separated token ids. */
export function tokenIds(name: string): (text: string) => number[] {
  return (text) => {
    const ids = text.split(",").map((part) => part.trim());
    if (ids.every((id) => /^\d+$/.test(id))) return ids.map(Number);
    throw wrongValue(name, text, "token ids with commas between them, like 1,17,45");
  };
}

/** One of a few words. */
export function oneOf<Word extends string>(name: string, words: readonly Word[]): (text: string) => Word {
  return (text) => {
    const word = words.find((each) => each === text);
    if (word !== undefined) return word;
    throw wrongValue(name, text, `one of ${words.join(", ")}`);
  };
}

export function commaSeparated(text: string): string[] {
  return text
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
}

/** Names with commas between them, at least one: a variable that is not set must not mean none. */
export function nameList(name: string): (text: string) => string[] {
  return (text) => {
    const names = commaSeparated(text);
    if (names.length > 0) return names;
    throw wrongValue(name, text, "names with commas between them");
  };
}

/** As browsers send it (https://datatracker.ietf.org/doc/html/rfc6454#section-6.1); with a path it would match none. */
const ORIGIN = /^(\*|null|[a-z][a-z\d+.-]*:\/\/[^/?#\s]+)$/;

/** Web origins with commas between them, or `*`. */
export function originList(name: string): (text: string) => string[] {
  return (text) => {
    const origins = commaSeparated(text);
    if (origins.length > 0 && origins.every((each) => ORIGIN.test(each))) return origins;
    throw wrongValue(name, text, "origins like https://page.example or http://localhost:5173, or *");
  };
}

const BYTE_UNITS: Record<string, number> = {
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  tb: 1e12,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
  tib: 2 ** 40,
};

/** `8GB`, `512 MiB`, `1e9`: bytes. */
export function byteCount(name: string): (text: string) => number {
  return (text) => {
    const [, amount, unit] = /^([\d.]+(?:e\d+)?)\s*([a-z]*)$/i.exec(text.trim()) ?? [];
    const bytes = Number(amount) * (BYTE_UNITS[(unit || "b").toLowerCase()] ?? Number.NaN);
    if (Number.isFinite(bytes) && bytes > 0) return Math.floor(bytes);
    throw wrongValue(name, text, "a size like 8GB or 512MiB");
  };
}

const TIME_UNITS: Record<string, number> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** `0`, `90s`, `15m`, `1h`, `7d`: milliseconds. */
export function duration(name: string): (text: string) => number {
  return (text) => {
    const [, amount, unit] = /^([\d.]+)\s*([smhd])$/.exec(text.trim()) ?? (text.trim() === "0" ? ["0", "0", "s"] : []);
    const milliseconds = Number(amount) * (TIME_UNITS[unit ?? ""] ?? Number.NaN);
    if (Number.isFinite(milliseconds)) return milliseconds;
    throw wrongValue(name, text, "a duration like 90s, 15m, 1h or 7d");
  };
}

/** `prompts.jsonl` or `hr,sales=prompts.jsonl`; each time the option is given, one more. */
export function calibrationFiles(text: string, before: unknown): CalibrationFile[] {
  const [, names, path = text] = /^([^=/\\]+)=(.+)$/.exec(text) ?? [];
  const models = names === undefined ? null : commaSeparated(names).map(canonicalModelName);
  if (path === "" || models?.length === 0) throw wrongValue("--calibration", text, "a file, or models=file");
  return [...((before as CalibrationFile[] | undefined) ?? []), { path, models }];
}

function wrongValue(name: string, text: string, expected: string): BlockllmError {
  return new BlockllmError("usage", `${name} is "${text}"; it must be ${expected}`);
}
