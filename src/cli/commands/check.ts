import { checkIntegrity, type Integrity } from "../../store/check-integrity.ts";
import { openRepository } from "../../store/open-repository.ts";
import { BlockllmError } from "../../support/errors.ts";
import { defineCommand } from "../command.ts";
import { formatBytes, formatCount } from "../output/format.ts";

interface Check extends Integrity {
  ok: boolean;
}

export const checkCommand = defineCommand<object, Check>({
  usage: "check",
  summary: "hash every blob again and follow every reference; changes nothing",
  options: [],
  examples: ["blockllm check"],
  async run({ repositoryPath, signal, progress }) {
    const repository = await openRepository(repositoryPath);
    progress.start("checking every blob");
    const integrity = await checkIntegrity(repository, {
      signal,
      onProgress: ({ blobs, bytes }) => progress.update(`${formatCount(blobs, "blob")}, ${formatBytes(bytes)}`),
    });
    progress.succeed(`read ${formatCount(integrity.blobs, "blob")}, ${formatBytes(integrity.bytes)}`);
    return { ok: integrity.problems.length === 0, ...integrity };
  },
  verdict: ({ problems: [first] }) =>
    first === undefined
      ? null
      : new BlockllmError(first.code, first.message, { hint: "split the models it breaks again" }),
  print({ ok, models, problems, garbage_blobs, garbage_bytes }) {
    const lines = problems.map(({ code, message, models: broken }) => {
      const consequence = broken.length === 0 ? "" : ` (breaks ${broken.join(", ")})`;
      return `${code}: ${message}${consequence}`;
    });
    lines.push(
      ok ? `sound: ${formatCount(models, "model")} can be read whole` : formatCount(problems.length, "problem"),
    );
    if (garbage_blobs > 0) {
      lines.push(
        `${formatCount(garbage_blobs, "blob")} (${formatBytes(garbage_bytes)}) belong to no model: \`blockllm gc\``,
      );
    }
    return lines.join("\n");
  },
});
