import { createHash } from "node:crypto";

/** A group and a tenant of equal names are not the same. */
export type PrefixOwner = { tenant: string } | { group: string };

export function prefixOwner(tenant: string, group: string | null): PrefixOwner {
  return group === null ? { tenant } : { group };
}

export function ownerLabel(owner: PrefixOwner): string {
  return JSON.stringify(owner);
}

/**
 * For every whole chunk of a prompt a key per stretch of the chain (chain/stretches.ts): of all tokens up to the chunk's
 * end, of what computes them and of whose they are. Keys of different tenants meet only where both are of one group, keys
 * of different models where both have come the same way.
 */
export function prefixKeys(
  tokens: readonly number[],
  { stretches, owner, chunk }: { stretches: readonly { key: string }[]; owner: PrefixOwner; chunk: number },
): string[][] {
  let keys = stretches.map(({ key }) => JSON.stringify([key, chunk, owner]));
  return Array.from({ length: Math.floor(tokens.length / chunk) }, (_, at) => {
    const own = Uint32Array.from(tokens.slice(at * chunk, (at + 1) * chunk));
    keys = keys.map((key) => createHash("sha256").update(key).update(own).digest("hex"));
    return keys;
  });
}
