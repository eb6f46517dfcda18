import { scalesByCall, type BlockChain } from "../../chain/chain.ts";
import { planChains } from "../../chain/plan.ts";
import { refineChains } from "../../chain/refine-chains.ts";
import type { BlockSource } from "../../chain/resolve-chain.ts";
import { rankChains } from "../execute/batch-layout.ts";
import { readPart } from "../execute/read-segment.ts";
import { readRotaryTables } from "../execute/rotary-tables.ts";
import { walkStages } from "../execute/walk-stages.ts";
import { coreObstacle } from "../execute/webgpu/device-cores.ts";
import { DeviceSession } from "../execute/webgpu/device-session.ts";
import { halfUse, withoutKernel } from "../execute/webgpu/for-webgpu.ts";
import { noHalf } from "../execute/webgpu/half-floats.ts";
import { WebgpuDevice } from "../execute/webgpu/webgpu-device.ts";
import { WebgpuExecutor, type DevicePlan } from "../execute/webgpu/webgpu-executor.ts";
import { Workspace } from "../memory/workspace.ts";
import type { ChainRunner, PreparedChains } from "./chain-runner.ts";

interface WebgpuConfig {
  device: "webgpu" | "webgpu:fp16";
  maxBatchTokens: number;
}

/** Chains on a WebGPU device. */
export class WebgpuRunner implements ChainRunner {
  readonly #source: BlockSource;
  readonly #config: WebgpuConfig;
  #device: WebgpuDevice | null = null;
  #known: readonly DeviceSession[] = [];
  #workspace: Workspace | null = null;
  #executor: WebgpuExecutor | null = null;

  constructor(source: BlockSource, config: WebgpuConfig) {
    this.#source = source;
    this.#config = config;
  }

  async obstacle({ document, cores, steps }: BlockChain): Promise<string | null> {
    if (scalesByCall(document)) return "its activations are quantised by the call";
    const reason = cores.map(coreObstacle).find((found) => found !== null);
    if (reason !== undefined) return reason;
    for (const step of steps) {
      if (step.kind === "core") continue;
      const [operator] = withoutKernel(await readPart(step.part, this.#source));
      if (operator !== undefined) return `WebGPU has no kernel for ${operator}, which ${step.part.label} has`;
    }
    return null;
  }

  async prepare(chains: BlockChain[]): Promise<PreparedChains> {
    const device = (this.#device ??= await WebgpuDevice.open());
    if (this.#config.device === "webgpu:fp16" && !device.computesHalf) throw noHalf();
    const plan = planChains((await refineChains(chains, this.#source)).chains);
    await device.openCores(chains.flatMap(({ cores }) => cores));
    const half = halfUse(this.#config.device, device.computesHalf);
    const from = { source: this.#source, device, half };
    const sessions = plan.segments.map((segment) => {
      const session = new DeviceSession(segment, from);
      return this.#known.find(({ key }) => key === session.key) ?? session;
    });
    const needed = Workspace.onDevice(plan.segments, this.#config.maxBatchTokens);
    const workspace = this.#workspace?.key === needed.key ? this.#workspace : needed;
    const stages = walkStages(plan);
    const ready: DevicePlan = {
      plan,
      stages,
      sessions,
      needs: new Map(
        plan.chains.map(({ chain, walk }) => {
          const segments = walk.flatMap((step) => (step.kind === "segment" ? [step.segment] : []));
          return [chain.key, [...Array.from(new Set(segments), (id) => sessions[id]!), workspace]];
        }),
      ),
      chainOf: new Map(plan.chains.map(({ chain }, index) => [chain.key, index])),
      rank: rankChains(plan.chains),
      tables: await readRotaryTables(stages, this.#source),
    };
    return {
      needs: ready.needs,
      // State is not read back.
      facts: () => ({ speculates: true, stretches: [], byCapacity: true }),
      commit: () => {
        this.#known = sessions;
        this.#workspace = workspace;
        this.#executor?.adopt(ready);
        this.#executor ??= new WebgpuExecutor(device, ready);
        return Promise.resolve(this.#executor);
      },
    };
  }
}
