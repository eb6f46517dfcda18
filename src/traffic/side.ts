import type { EngineKnobs } from "../engine/engine-client.ts";
import type { PeerName } from "./peers/installed-peer.ts";

/** What a measurement is taken of; plain data, because each side runs in a process of its own. */
export type Side =
  | { kind: "engine"; repository: string; models: string[] | "all"; engine: EngineKnobs }
  /** One deployment per model: a whole-model session each. `folder` has the model's own file. */
  | { kind: "per-model"; repository: string; models: { name: string; folder: string }[]; engine: EngineKnobs }
  /** Another runtime, one model each. `entry` is where its package is installed. */
  | {
      kind: "peer";
      peer: PeerName;
      entry: string;
      repository: string;
      models: { name: string; folder: string }[];
      sequences: number;
      /** Of all sequences of a model, in tokens each. */
      contextLength: number;
      threads: number;
    }
  | { kind: "http"; url: string; keys: string[]; models: string[] | "all" };
