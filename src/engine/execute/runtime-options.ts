import type { InferenceSession } from "onnxruntime-node";

/**
 * One choice for every session. Spinning pools of many sessions starve each other (25–60× slower, measured), and memory
 * patterns assume lengths that do not change. An arena of each session's own would keep what its largest run took, though
 * only one session runs at a time (docs/decisions/2026-11-24-what-the-engine-holds.md). A residual sum and the layer norm behind it stay two operators: fused they
 * round otherwise, and whether they lie in one session depends on which models are loaded.
 */
export function runtimeOptions(threads: number, externalDataFolder?: string): InferenceSession.SessionOptions {
  const session: Record<string, unknown> = { intra_op: { allow_spinning: "0" } };
  if (externalDataFolder !== undefined) session["model_external_initializers_file_folder_path"] = externalDataFolder;
  return {
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    enableMemPattern: false,
    enableCpuMemArena: false,
    logSeverityLevel: 3,
    extra: { session, optimization: { disable_specified_optimizers: "SkipLayerNormFusion;EmbedLayerNormFusion" } },
  };
}
