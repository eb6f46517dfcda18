import { type Stats, statSync } from "node:fs";

const UNREACHABLE = new Set<unknown>(["ENOTDIR", "ENAMETOOLONG", "ELOOP"]);

/** undefined where no file can be at this path. */
export function statFile(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch (error) {
    if (error instanceof Error && "code" in error && UNREACHABLE.has(error.code)) return undefined;
    throw error;
  }
}
