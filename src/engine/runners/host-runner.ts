import type { BlockChain } from "../../chain/chain.ts";
import { planChains, type Plan } from "../../chain/plan.ts";
import { refineChains } from "../../chain/refine-chains.ts";
import type { BlockSource } from "../../chain/resolve-chain.ts";
import { AttentionCores } from "../execute/attention-core.ts";
import { ChainExecutor } from "../execute/chain-executor.ts";
import { Lanes } from "../execute/lanes/lanes.ts";
import { loadablePlan, sharesRuns, type LoadablePlan } from "../execute/ready-plan.ts";
import type { SessionSource } from "../execute/segment-session.ts";
import type { ChainRunner, PreparedChains } from "./chain-runner.ts";

interface HostOptions {
  /** How the segments of a plan are loaded. */
  from: (plan: Plan) => Promise<Omit<SessionSource, "source" | "lanes">>;
  threads: number;
  /** In how many a step's sequences may be shared out; 1: they all go together. */
  lanes?: number;
}

/** Chains on the CPU. With CUDA devices their segments are on those, attention with its keys and values on the CPU. */
export class HostRunner implements ChainRunner {
  readonly #source: BlockSource;
  readonly #from: HostOptions["from"];
  readonly #cores: AttentionCores;
  readonly #lanes: Lanes | null;
  #plan: LoadablePlan | null = null;
  #executor: ChainExecutor | null = null;

  constructor(source: BlockSource, { from, threads, lanes = 1 }: HostOptions) {
    this.#source = source;
    this.#from = from;
    this.#cores = new AttentionCores(threads);
    this.#lanes = lanes > 1 ? new Lanes({ count: lanes, threads }) : null;
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
      from: { source: this.#source, lanes: this.#lanes, ...(await this.#from(planned)) },
    });
    return {
      needs: plan.needs,
      facts: (chain) => ({
        speculates: sharesRuns(plan, chain.key),
        stretches: plan.stretches[plan.chainOf.get(chain.key)!]!,
      }),
      commit: async () => {
        this.#plan = plan;
        this.#lanes?.adopt(plan);
        await this.#executor?.adopt(plan);
        return (this.#executor ??= new ChainExecutor(plan, this.#lanes));
      },
    };
  }
}
