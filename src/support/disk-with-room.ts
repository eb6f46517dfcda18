import { statfsSync } from "node:fs";
import { tmpdir } from "node:os";

/** A file system in memory. https://man7.org/linux/man-pages/man2/statfs.2.html */
const TMPFS = 0x0102_1994;
/** Of the free disk, what others may need stays. */
const SHARE_OF_FREE_DISK = 0.5;
/** Files there outlive a restart, so it is on a disk where the folder for temporary files is not. */
const LASTING = "/var/tmp";

/** A folder for temporary files on a disk where so many bytes leave room for others; null: there is none. */
export function diskWithRoom(bytes: number): string | null {
  return [tmpdir(), LASTING].find((folder) => hasRoom(folder, bytes)) ?? null;
}

/** false also where it is in memory, which would take what is to be freed, or not there. */
export function hasRoom(folder: string, bytes: number): boolean {
  try {
    const { type, bavail, bsize } = statfsSync(folder);
    return type !== TMPFS && bytes <= bavail * bsize * SHARE_OF_FREE_DISK;
  } catch {
    return false;
  }
}
