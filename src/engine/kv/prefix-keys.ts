import { createHash } from "node:crypto";

/**
 * A key for every whole chunk of a prompt, each of all tokens up to the chunk's end, of what computes them and of whose
 * they are: keys of different tenants never meet.
 */
export function prefixKeys(
  tokens: readonly number[],
  { stateKey, tenant, chunk }: { stateKey: string; tenant: string; chunk: number },
): string[] {
  let key = JSON.stringify([stateKey, chunk, tenant]);
  return Array.from({ length: Math.floor(tokens.length / chunk) }, (_, at) => {
    const own = Uint32Array.from(tokens.slice(at * chunk, (at + 1) * chunk));
    key = createHash("sha256").update(key).update(own).digest("hex");
    return key;
  });
}
