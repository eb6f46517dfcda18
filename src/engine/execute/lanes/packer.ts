import { type ChildProcess, fork } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { OnnxModel } from "../../../onnx/model.ts";
import { writeModel } from "../../../onnx/write-model.ts";
import { diskWithRoom } from "../../../support/disk-with-room.ts";
import { scriptBeside } from "../../../support/script-beside.ts";
import { weightPlace } from "../weight-place.ts";
import { PACKING_FACTOR } from "./packed-model.ts";

/** A graph as a file, or in memory with its weights in a folder. */
export type PlainGraph = { path: string } | { model: OnnxModel; folder: string };

/**
 * What the packing process is asked: `weights` is the folder of those that do not lie beside the graph. The folder of `path` is
 * made for it and goes with it.
 */
export interface ToPack {
  plain: string;
  weights: string | null;
  path: string;
}

/** Why it could not; null: it is there. */
export interface Packed {
  reason: string | null;
}

/** Files that sessions are opened from (openPacked). */
export interface PackedModel {
  path: string;
  /** Takes the files away; sessions that were opened keep what they mapped. */
  remove: () => void;
}

/** Segments are packed one after the other, while a repository is loaded: then the process has nothing more to do. */
const IDLE_MS = 5000;

/** Packs graphs in a process of its own, one at a time (packing-process.ts). */
export class Packer {
  #process: ChildProcess | null = null;
  #last: Promise<void> = Promise.resolve();
  #idle: NodeJS.Timeout | null = null;

  /**
   * `bytes`: of its weights, at least. Errors: no disk has room for packing it (one in memory is none), or files stay
   * while they are mapped; ONNX Runtime's, the file system's; the process ended.
   */
  async pack(graph: PlainGraph, bytes: number): Promise<PackedModel> {
    if (process.platform === "win32") throw new Error("Windows does not let files go that are mapped");
    const disk = diskWithRoom(PACKING_FACTOR * bytes);
    if (disk === null) throw new Error(`no disk for temporary files has ${PACKING_FACTOR * bytes} bytes to spare`);
    const folder = mkdtempSync(join(disk, "blockllm-packed-"));
    const remove = (): void => rmSync(folder, { recursive: true, force: true });
    try {
      const path = join(folder, "model.onnx");
      const asked = this.#last.then(async () => this.#ask({ ...written(graph, join(folder, "plain.onnx")), path }));
      this.#last = asked.catch(() => {});
      await asked;
      return { path, remove };
    } catch (error) {
      remove();
      throw error;
    }
  }

  end(): void {
    if (this.#idle) clearTimeout(this.#idle);
    this.#process?.disconnect();
    this.#process = null;
  }

  async #ask(message: ToPack): Promise<void> {
    if (this.#idle) clearTimeout(this.#idle);
    const child = (this.#process ??= this.#start());
    child.channel?.ref();
    const { reason } = await new Promise<Packed>((resolve, reject) => {
      const leave = (code: number | null, signal: string | null): void =>
        reject(new Error(`the process that packs weights ended with ${signal ?? code}`));
      child.once("exit", leave).once("message", (packed: Packed) => {
        child.off("exit", leave);
        resolve(packed);
      });
      child.send(message);
    });
    // One that waits to be asked keeps nobody running.
    child.channel?.unref();
    this.#idle = setTimeout(() => this.end(), IDLE_MS).unref();
    if (reason !== null) throw new Error(reason);
  }

  #start(): ChildProcess {
    const script = scriptBeside(import.meta.url, "packing-process");
    const execArgv = script.href.endsWith(".js") ? [] : ["--import", import.meta.resolve("tsx")];
    const child = fork(fileURLToPath(script), { execArgv, stdio: ["ignore", "ignore", "ignore", "ipc"] });
    child.on("exit", () => (this.#process = this.#process === child ? null : this.#process));
    // Sending to one that ended is told by its exit.
    child.on("error", () => {});
    child.unref();
    return child;
  }
}

/** Weights stay where they are. Error: model_too_large where what lies inside the graph is more than a file holds. */
function written(graph: PlainGraph, path: string): Omit<ToPack, "path"> {
  if ("path" in graph) return { plain: graph.path, weights: null };
  writeFileSync(path, writeModel(graph.model, weightPlace), { flag: "wx", mode: 0o600 });
  return { plain: path, weights: graph.folder };
}
