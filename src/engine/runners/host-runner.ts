import type { BlockChain } from "../../chain/chain.ts";
import { planChains, type Plan } from "../../chain/plan.ts";
import { refineChains } from "../../chain/refine-chains.ts";
import type { BlockSource } from "../../chain/resolve-chain.ts";
import { AttentionCores } from "../execute/attention-core.ts";
import { ChainExecutor } from "../execute/chain-executor.ts";
import { loadablePlan, sharesRuns, type LoadablePlan } from "../execute/ready-plan.ts";
import type { SessionSource } from "../execute/segment-session.ts";
import type { ChainRunner, PreparedChains } from "./chain-runner.ts";

/** Chains on the CPU. With CUDA devices their segments are on those, attention with its keys and values on the CPU. */
export class HostRunner implements ChainRunner {
  readonly #source: BlockSource;
  readonly #from: (plan: Plan) => Promise<Omit<SessionSource, "source">>;
  readonly #cores: AttentionCores;
  #plan: LoadablePlan | null = null;
  #executor: ChainExecutor | null = null;

  /** `from` says how the segments of a plan are loaded. */
  constructor(
    source: BlockSource,
    { from, threads }: { from: (plan: Plan) => Promise<Omit<SessionSource, "source">>; threads: number },
  ) {
    this.#source = source;
    this.#from = from;
    this.#cores = new AttentionCores(threads);
  }

  obstacle(): Promise<null> {
    return Promise.resolve(null);
  }

  async prepare(chains: BlockChain[]): Promise<PreparedChains> {
    const refined = await refineChains(chains, this.#source);
    const planned = planChains(refined.chains);
    const plan = await loadablePlan(planned, {
      cores: this.#cores,
      known: this.#plan,
      from: { source: this.#source, ...(await this.#from(planned)) },
    });
    return {
      needs: plan.needs,
      facts: (chain) => ({
        speculates: sharesRuns(plan, chain.key),
        stretches: plan.stretches[plan.chainOf.get(chain.key)!]!,
      }),
      commit: async () => {
        this.#plan = plan;
        await this.#executor?.adopt(plan);
        return (this.#executor ??= new ChainExecutor(plan));
      },
    };
  }
}
