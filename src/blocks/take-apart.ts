import { canonicalise, type CanonicalModel } from "../canonical/canonicalise.ts";
import { LIFTS } from "../canonical/lifts.ts";
import type { ModelHints } from "../canonical/probe.ts";
import { Unliftable } from "../canonical/value.ts";
import { inlineFunctions } from "../onnx/inline-functions.ts";
import type { OnnxModel } from "../onnx/model.ts";
import { BlockllmError } from "../support/errors.ts";
import type { OpaqueSpec } from "./block.ts";
import { cutModel, type CutBlock, type Granularity } from "./cut-model.ts";
import { emitPart, type EmittedPart } from "./emit-part.ts";
import { describeOpaque, refused } from "./opaque-model.ts";

/** A model in parts, before anything is stored. */
export type TakenApart =
  | { kind: "cut"; canonical: CanonicalModel; blocks: { cut: CutBlock; parts: EmittedPart[] }[] }
  /** Served whole: `reason` names the node and why. */
  | { kind: "opaque"; model: OnnxModel; spec: OpaqueSpec; reason: string };

/**
 * Takes a decoder apart into blocks; a decoder that is not understood stays whole. Throws `model_unsupported` for what
 * cannot be served at all.
 */
export function takeApart(given: OnnxModel, hints: ModelHints, granularity: Granularity = "module"): TakenApart {
  const model = inlineFunctions(given, (domain, name) => (domain === "" ? name : `${domain}.${name}`) in LIFTS);
  try {
    const canonical = canonicalise(model, hints);
    const blocks = cutModel(canonical, granularity).map((cut) => ({
      cut,
      parts: cut.parts.map((part) => emitPart(canonical.program, cut, part)),
    }));
    return { kind: "cut", canonical, blocks };
  } catch (error) {
    // A graph that breaks an assumption of the lifting itself is as little understood as one that it refuses.
    if (error instanceof BlockllmError) throw error;
    if (error instanceof Unliftable && error.broken) throw refused(error.node, error.message);
    const reason = error instanceof Unliftable ? `${error.node}: ${error.message}` : `while lifting: ${String(error)}`;
    return { kind: "opaque", model: given, spec: describeOpaque(given, hints), reason };
  }
}
