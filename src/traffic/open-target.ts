import { startEngine } from "../engine/engine-client.ts";
import { EngineTarget } from "./engine-target.ts";
import { HttpTarget } from "./http-target.ts";
import { startWholeModels } from "./per-model/start-whole-models.ts";
import { LlamaTarget } from "./peers/llama-target.ts";
import { TransformersTarget } from "./peers/transformers-target.ts";
import type { Side } from "./side.ts";
import type { Target } from "./target.ts";

/** Loads a side's models, or connects to it. Errors: what starting the engine or connecting throws. */
export async function openTarget(side: Side): Promise<Target> {
  switch (side.kind) {
    case "engine": {
      const { repository, models, engine } = side;
      return new EngineTarget(await startEngine({ repository, models, ...engine }));
    }
    case "per-model":
      return new EngineTarget(await startWholeModels(side));
    case "peer":
      return side.peer === "transformers.js"
        ? await TransformersTarget.load(side.entry, side.models)
        : await LlamaTarget.load(side.entry, side.models, side);
    case "http":
      return await HttpTarget.connect(side);
  }
}
