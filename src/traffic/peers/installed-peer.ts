import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

/** Other runtimes that run the same models, by the name a user says; the packages are the user's to install. */
export const PEER_PACKAGES = {
  "transformers.js": "@huggingface/transformers",
  "node-llama-cpp": "node-llama-cpp",
} as const;

export type PeerName = keyof typeof PEER_PACKAGES;

export function isPeerName(text: string): text is PeerName {
  return text in PEER_PACKAGES;
}

/** Where the user's project, whose folder is `folder`, has the peer; null where it is not installed. */
export function findPeer(peer: PeerName, folder: string): string | null {
  try {
    return pathToFileURL(createRequire(join(folder, "package.json")).resolve(PEER_PACKAGES[peer])).href;
  } catch {
    return null;
  }
}
