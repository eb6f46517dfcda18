/** What a caught value says, to be put into an error of our own. */
export function reasonOf(caught: unknown): string {
  return caught instanceof Error ? caught.message : String(caught);
}

const WRONG_PATHS = new Map<unknown, string>([
  ["ENOENT", "there is no such file"],
  ["ENOTDIR", "there is no such file"],
  ["EISDIR", "it is a folder"],
]);

/** Why no file could be read at a path that a user typed, where the path is at fault; null for any other error. */
export function wrongPathReason(caught: unknown): string | null {
  return caught instanceof Error && "code" in caught ? (WRONG_PATHS.get(caught.code) ?? null) : null;
}
