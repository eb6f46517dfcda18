import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import type { Verification } from "../../src/engine/verify-model.ts";
import { verifyModel } from "../../src/engine/verify-model.ts";
import type { OnnxModel } from "../../src/onnx/model.ts";
import { writeModel } from "../../src/onnx/write-model.ts";
import { addModel } from "../../src/store/add-model.ts";
import type { ModelDocument } from "../../src/store/model-document.ts";
import { openRepository } from "../../src/store/open-repository.ts";
import { TINY } from "./tiny-decoder.ts";

export interface SplitOutcome {
  document: ModelDocument;
  /** "" when the model was cut, else why it was kept whole. */
  reason: string;
  /** The chain (or the opaque block) against the file in ONNX Runtime. */
  verification: Verification;
}

const LONG = Array.from({ length: TINY.contextLength - 20 }, (_, i) => (i * 17 + 3) % TINY.vocab);

/** Splits a model of TINY's vocabulary and compares it with itself on short, long and growing sequences. */
export async function splitAndVerify(model: OnnxModel): Promise<SplitOutcome> {
  const root = await mkdtemp(join(tmpdir(), "blockllm-trap-"));
  try {
    const folder = join(root, "model");
    await mkdir(folder);
    await writeFile(join(folder, "model.onnx"), writeModel(model));
    await writeFile(join(folder, "config.json"), JSON.stringify({ max_position_embeddings: TINY.contextLength }));
    const repository = await openRepository(join(root, "blocks"), { create: true });
    const { document } = await addModel(repository, folder);
    const prompts = [[5], LONG.slice(0, 3), LONG.slice(0, 12), LONG];
    const verification = await verifyModel(repository, "model", { against: folder, prompts });
    const reason = document.opaque ? document.warnings.at(-1)! : "";
    return { document, reason, verification };
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}
