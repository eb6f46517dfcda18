/**
 * A process that splits one model, so that its memory can be watched from outside: `split-process.ts <folder>
 * <repository>`. Its last line says what came of it and how many bytes it read (null where the system does not say).
 */
import { existsSync, readFileSync } from "node:fs";

import { addModel } from "../../src/store/add-model.ts";
import { openRepository } from "../../src/store/open-repository.ts";

export interface SplitOutcome {
  kinds: string[];
  warnings: string[];
  readBytes: number | null;
}

const [folder = "", repository = ""] = process.argv.slice(2);
const before = readBytes();
const { document } = await addModel(await openRepository(repository, { create: true }), folder);
const outcome: SplitOutcome = {
  kinds: document.chain.map(({ kind }) => kind),
  warnings: document.warnings,
  readBytes: before === null ? null : readBytes()! - before,
};
console.log(JSON.stringify(outcome));

function readBytes(): number | null {
  const counters = "/proc/self/io";
  return existsSync(counters) ? Number(/^rchar: (\d+)$/m.exec(readFileSync(counters, "utf8"))![1]) : null;
}
