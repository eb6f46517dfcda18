import { readFileSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import { InferenceSession } from "onnxruntime-node";
import { reasonOf } from "../../../support/reason.ts";
import { runtimeOptions } from "../runtime-options.ts";
import { writePacked } from "./packed-model.ts";
import type { Packed, ToPack } from "./packer.ts";

/** A process of its own: what packing leaves behind in the allocator goes with it, and it takes no time from who serves. */
process.on("message", (asked: ToPack) => void answer(asked));
process.on("disconnect", () => {
  // Who asked may have been killed: nobody else would take the files away.
  if (last !== null) rmSync(dirname(last), { recursive: true, force: true });
  process.exit(0);
});

let last: string | null = null;

async function answer({ plain, weights, path }: ToPack): Promise<void> {
  last = path;
  try {
    await writePacked(path, async (saving) =>
      weights === null
        ? await InferenceSession.create(plain, saving(runtimeOptions(1)))
        : await InferenceSession.create(readFileSync(plain), saving(runtimeOptions(1, weights))),
    );
    process.send!({ reason: null } satisfies Packed);
  } catch (error) {
    process.send!({ reason: reasonOf(error) } satisfies Packed);
  }
}
