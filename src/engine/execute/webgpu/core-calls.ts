import type { CoreSpec } from "../../../blocks/block.ts";
import { coreKey } from "./device-cores.ts";
import type { KvPlace, KvPool } from "./kv-pool.ts";

export interface DeviceSequence {
  model: string;
  pool: KvPool;
  bytesPerToken: number;
  /** null until its first tokens come. */
  place: KvPlace | null;
  tokens: number;
  /** What it had on the device is gone: it cannot go on. */
  gone: boolean;
}

export interface CoreCall {
  core: { layer: number; spec: CoreSpec };
  round: number;
  members: CallMember[];
}

export interface CallMember {
  one: DeviceSequence;
  core: { layer: number; spec: CoreSpec };
  round: number;
  /** First row in the segment's outputs, and in the flat batch. */
  source: number;
  row: number;
  position: number;
  count: number;
}

/** Members of one slab, layer and round share a call; rounds of a sequence follow each other. */
export function addCall(calls: CoreCall[], member: CallMember): void {
  const { one, core, round } = member;
  const shared = one.pool.holders(one.place!) !== null;
  const known = calls.find(
    (call) =>
      shared &&
      call.round === round &&
      call.core.layer === core.layer &&
      coreKey(call.core.spec) === coreKey(core.spec) &&
      call.members[0]!.one.place!.slab === one.place!.slab,
  );
  if (known) known.members.push(member);
  else calls.push({ core, round, members: [member] });
}
