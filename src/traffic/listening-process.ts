import { readdirSync, readFileSync, readlinkSync } from "node:fs";

/** The process of this machine that listens on a TCP port; null where none is found or the system does not tell. */
export function listeningProcess(port: number): number | null {
  try {
    const sockets = new Set(["tcp", "tcp6"].flatMap((table) => listeningSockets(table, port)));
    if (sockets.size === 0) return null;
    const processes = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
    const found = processes.find((pid) => openFiles(pid).some((file) => sockets.has(file)));
    return found === undefined ? null : Number(found);
  } catch {
    return null;
  }
}

/** proc(5): local address as hex:port, state 0A is LISTEN, the tenth field is the socket's inode. */
function listeningSockets(table: string, port: number): string[] {
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  return readFileSync(`/proc/net/${table}`, "utf8")
    .split("\n")
    .slice(1)
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields[1]?.endsWith(suffix) && fields[3] === "0A")
    .map((fields) => `socket:[${fields[9]}]`);
}

/** None of a process that has ended, or that is another user's. */
function openFiles(pid: string): string[] {
  const folder = `/proc/${pid}/fd`;
  return attempt(() => readdirSync(folder), []).map((name) => attempt(() => readlinkSync(`${folder}/${name}`), ""));
}

function attempt<Value>(read: () => Value, otherwise: Value): Value {
  try {
    return read();
  } catch {
    return otherwise;
  }
}
