import { stat } from "node:fs/promises";

/** A look costs microseconds; notices of the system do not come from network and many container volumes. */
const LOOK_MS = 1000;

export interface FileWatch {
  /** From now on `onChange` is called with every file that is not as it was when the watch began, or at the last look. */
  start(onChange: (file: string) => void): void;
  stop(): void;
}

/** Looks at files that are replaced as a whole. One that goes, or comes, has changed. */
export async function watchFiles(files: readonly string[], everyMs: number = LOOK_MS): Promise<FileWatch> {
  const seen = new Map<string, string>();
  for (const file of files) seen.set(file, await markOf(file));
  let timer: NodeJS.Timeout | undefined;
  let open = true;
  const look = async (onChange: (file: string) => void): Promise<void> => {
    for (const file of files) {
      const mark = await markOf(file);
      if (mark === seen.get(file)) continue;
      seen.set(file, mark);
      if (open) onChange(file);
    }
    if (open) timer = setTimeout(() => void look(onChange), everyMs);
  };
  return {
    start: (onChange) => void look(onChange),
    stop: () => {
      open = false;
      clearTimeout(timer);
    },
  };
}

/** What is different once a file was replaced or written; what cannot be looked at has the reason as its mark. */
async function markOf(file: string): Promise<string> {
  try {
    const { ino, size, mtimeMs } = await stat(file);
    return `${ino} ${size} ${mtimeMs}`;
  } catch (error) {
    return String((error as NodeJS.ErrnoException).code);
  }
}
