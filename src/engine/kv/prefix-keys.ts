import { createHash } from "node:crypto";

/** A group and a tenant of equal names are not the same. */
export type PrefixOwner = { tenant: string } | { group: string };

/**
 * A key for every whole chunk of a prompt, each of all tokens up to the chunk's end, of what computes them and of whose
 * they are: keys of different tenants meet only where both were put into one group.
 */
export function prefixKeys(
  tokens: readonly number[],
  { stateKey, owner, chunk }: { stateKey: string; owner: PrefixOwner; chunk: number },
): string[] {
  let key = JSON.stringify([stateKey, chunk, owner]);
  return Array.from({ length: Math.floor(tokens.length / chunk) }, (_, at) => {
    const own = Uint32Array.from(tokens.slice(at * chunk, (at + 1) * chunk));
    key = createHash("sha256").update(key).update(own).digest("hex");
    return key;
  });
}
