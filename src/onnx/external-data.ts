import { realpathSync } from "node:fs";
import { dirname, isAbsolute, join, resolve, sep, win32 } from "node:path";
import { BlockllmError } from "../support/errors.ts";
import { statFile } from "./stat-file.ts";

/** What a TensorProto's external_data entries say, as strings. */
export type ExternalEntries = Map<string, string>;

export interface ExternalPlace {
  kind: "file";
  path: string;
  offset: number;
  length: number;
  packed?: ReadonlyMap<string, string>;
}

/** Keys that ONNX Runtime adds (`session.save_external_prepacked_constant_initializers`). */
const PACKED_KEY = /^prepacked_\d+$/;

/**
 * Resolves external_data against a model's folder (https://onnx.ai/onnx/repo-docs/ExternalData.html). A location is
 * text from a stranger: it must stay inside the folder, also through symbolic links, as ONNX Runtime demands too.
 */
export class ExternalData {
  readonly #folder: string;
  readonly #mayMiss: boolean;
  readonly #files = new Map<string, { path: string; size: number }>();

  /** `mayMiss`: a file that is not there is not measured, only named. */
  constructor(modelPath: string, { mayMiss } = { mayMiss: false }) {
    this.#folder = dirname(resolve(modelPath));
    this.#mayMiss = mayMiss;
  }

  /** Where the `needed` bytes of the tensor `name` lie; every error names the tensor. */
  locate(name: string, entries: ExternalEntries, needed: number): ExternalPlace {
    const location = entries.get("location");
    if (!location) throw new BlockllmError("model_invalid", `tensor ${name}: its external data has no location`);
    const file = this.#file(name, location);
    const offset = wholeNumber(name, "offset", entries.get("offset") ?? "0");
    const length = wholeNumber(name, "length", entries.get("length") ?? String(needed));
    if (length !== needed) {
      throw short(name, `external data length is ${length} bytes, its dims and type need ${needed}`);
    }
    if (offset + length > file.size) {
      throw short(name, `offset ${offset} + length ${length} is beyond the ${file.size} bytes of ${file.path}`);
    }
    const packed = new Map([...entries].filter(([key]) => PACKED_KEY.test(key)));
    return { kind: "file", path: file.path, offset, length, ...(packed.size > 0 && { packed }) };
  }

  #file(name: string, location: string): { path: string; size: number } {
    const known = this.#files.get(location);
    if (known) return known;
    if (!staysInside(location)) throw escapes(name, location, this.#folder);
    const path = join(this.#folder, location);
    const stat = statFile(path);
    if (!stat && this.#mayMiss) return { path, size: Infinity };
    if (!stat?.isFile()) {
      throw new BlockllmError("external_data_missing", `tensor ${name}: there is no file ${path}`, {
        hint: `copy ${location} next to the model`,
      });
    }
    if (!realpathSync(path).startsWith(withSeparator(realpathSync(this.#folder)))) {
      throw escapes(name, location, this.#folder);
    }
    const file = { path, size: stat.size };
    this.#files.set(location, file);
    return file;
  }
}

function staysInside(location: string): boolean {
  if (location.includes("\0") || isAbsolute(location) || win32.isAbsolute(location)) return false;
  // A drive-relative Windows path ("C:data") is not absolute and still leaves the folder.
  if (/^[a-z]:/i.test(location)) return false;
  return !location.split(/[/\\]/).includes("..");
}

function withSeparator(folder: string): string {
  return folder.endsWith(sep) ? folder : folder + sep;
}

function wholeNumber(name: string, key: string, text: string): number {
  const value = /^\d+$/.test(text) ? Number(text) : NaN;
  if (Number.isSafeInteger(value)) return value;
  throw new BlockllmError(
    "model_invalid",
    `tensor ${name}: external data ${key} is ${JSON.stringify(text)}, not a count`,
  );
}

function short(name: string, what: string): BlockllmError {
  return new BlockllmError("external_data_short", `tensor ${name}: ${what}`, {
    hint: "the data file is incomplete or belongs to another model; download or export it again",
  });
}

function escapes(name: string, location: string, folder: string): BlockllmError {
  return new BlockllmError(
    "external_data_escapes",
    `tensor ${name}: external data location ${JSON.stringify(location)} leaves the model's folder ${folder}`,
    { hint: "copy the data into the model's folder as a real file (cp -L resolves links)" },
  );
}
