import type { Plan, Segment } from "../../chain/plan.ts";
import type { PlannedBytes } from "./planned-bytes.ts";
import { factorBytes } from "./session-bytes.ts";

/** What each chain of a plan adds to the memory that the others take: segments and adapters that it alone uses. */
export async function ownBytes(plan: Plan, bytesOf: PlannedBytes): Promise<number[]> {
  const own = plan.chains.map(() => 0);
  for (const segment of plan.segments) {
    const [only, ...others] = segment.chains;
    if (others.length === 0) {
      own[only!]! += await bytesOf(segment);
      continue;
    }
    segment.adapters.forEach((adapter, place) => {
      const [user, ...more] = usersOf(segment, place + 1, plan);
      if (more.length === 0) own[user!]! += factorBytes([adapter]);
    });
  }
  return own;
}

function usersOf(segment: Segment, adapter: number, { chains }: Plan): number[] {
  return segment.chains.filter((chain) =>
    chains[chain]!.walk.some(
      (step) => step.kind === "segment" && step.segment === segment.id && step.adapter === adapter,
    ),
  );
}
