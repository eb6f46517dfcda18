import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve, sep } from "node:path";
import { describe, expect, it } from "vitest";
import { VARIABLES } from "../src/support/env.ts";
import { ERRORS } from "../src/support/errors.ts";

/** In processing order: a room imports itself and the rooms before it. */
const ROOMS = [
  "support",
  "onnx",
  "canonical",
  "blocks",
  "fingerprint",
  "store",
  "chain",
  "text",
  "engine",
  "server",
  "traffic",
  "cli",
];
const LINE_LIMIT = 400;

const root = resolve(import.meta.dirname, "..");
const source = join(root, "src");
const files = readdirSync(source, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile() && entry.name.endsWith(".ts"))
  .map((entry) => join(entry.parentPath, entry.name));

describe("rooms", () => {
  it("are the folders of src, no more and no fewer", () => {
    const folders = readdirSync(source, { withFileTypes: true }).filter((entry) => entry.isDirectory());
    expect(folders.map((folder) => folder.name).toSorted()).toEqual(ROOMS.toSorted());
  });

  it("import only themselves and rooms above them", () => {
    const offences = files.flatMap((file) =>
      relativeImports(file)
        .filter((target) => ROOMS.indexOf(roomOf(target)) > ROOMS.indexOf(roomOf(file)) && roomOf(file) !== "")
        .map((target) => `${relative(root, file)} imports ${relative(root, target)}`),
    );
    expect(offences).toEqual([]);
  });

  it("are imported from inside src only", () => {
    const offences = files.filter((file) =>
      relativeImports(file).some((target) => !target.startsWith(source + sep) && !target.endsWith("package.json")),
    );
    expect(offences).toEqual([]);
  });
});

describe("source files", () => {
  it(`have at most ${LINE_LIMIT} lines`, () => {
    const long = files.filter((file) => read(file).split("\n").length - 1 > LINE_LIMIT);
    expect(long.map((file) => relative(root, file))).toEqual([]);
  });

  it("read process.env in support/env.ts alone", () => {
    const readers = files.filter((file) => /\bprocess\s*\.\s*env\b/.test(read(file)));
    expect(readers.map((file) => relative(root, file))).toEqual([join("src", "support", "env.ts")]);
  });
});

describe("documentation", () => {
  it("lists every error code with its exit code and HTTP status, and no other", () => {
    const rows = [...read(join(root, "docs", "errors.md")).matchAll(/^\| `(\w+)` \| (\d+) \| (\d+) \|/gm)];
    const documented = Object.fromEntries(
      rows.map(([, code, exit, status]) => [code, { exit: Number(exit), status: Number(status) }]),
    );
    expect(documented).toEqual(ERRORS);
  });

  it("lists every variable, and no other", () => {
    const named = new Set(read(join(root, "README.md")).match(/\bBLOCKLLM_[A-Z_]+/g));
    expect([...named].toSorted()).toEqual(Object.keys(VARIABLES).toSorted());
  });

  it("names only files that exist in ARCHITECTURE.md, and stays short", () => {
    const text = read(join(root, "ARCHITECTURE.md"));
    expect(text.split("\n").length).toBeLessThanOrEqual(200);
    const named = [...text.matchAll(/`([\w./-]+\/[\w-]+\.(?:ts|js|md))`/g)].map((match) => match[1]!);
    const missing = named.filter((path) => ![root, source].some((folder) => existsSync(join(folder, path))));
    expect(missing.filter((path) => !path.startsWith("dist/"))).toEqual([]);
  });

  it("names no error code that the source never throws", () => {
    const text = files
      .filter((file) => !file.endsWith(join("support", "errors.ts")))
      .map(read)
      .join("\n");
    const unused = Object.keys(ERRORS).filter((code) => !new RegExp(`["']${code}["']`).test(text));
    expect(unused).toEqual([]);
  });
});

function relativeImports(file: string): string[] {
  const pattern = /(?:from\s+|import\s*\(\s*|import\s+|new URL\(\s*)["'](\.[^"']+)["']/g;
  return [...read(file).matchAll(pattern)].map((match) => resolve(dirname(file), match[1]!));
}

/** "" for a file directly in src. */
function roomOf(file: string): string {
  const parts = relative(source, file).split(sep);
  return parts.length > 1 ? parts[0]! : "";
}

function read(file: string): string {
  return readFileSync(file, "utf8");
}
