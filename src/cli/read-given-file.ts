import { readFile } from "node:fs/promises";
import { BlockllmError } from "../support/errors.ts";
import { wrongPathReason } from "../support/reason.ts";

/** The text of a file that an option names. Throws `usage`, beginning with `what`, where there is none at that path. */
export async function readGivenFile(path: string, { what, hint }: { what: string; hint: string }): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    const reason = wrongPathReason(cause);
    if (reason === null) throw cause;
    throw new BlockllmError("usage", `${what}: ${reason}`, { hint, cause });
  }
}
