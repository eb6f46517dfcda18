import { basename } from "node:path";
import { type AddModelOptions, addModel } from "../../store/add-model.ts";
import { openRepository } from "../../store/open-repository.ts";
import type { Repository } from "../../store/repository.ts";
import { type ModelSharing, sharingOf } from "../../store/sharing.ts";
import { BlockllmError } from "../../support/errors.ts";
import { defineCommand } from "../command.ts";
import type { CommandContext } from "../context.ts";
import { oneOf, wholeNumber } from "../parse-values.ts";
import { formatBytes, formatCount, formatDuration, formatPercent } from "../output/format.ts";
import { type RefusedModel, type Split, type SplitModel, printSplit } from "../output/split.ts";

interface SplitOptions {
  name?: string;
  as?: string;
  adapter?: string;
  context?: number;
  replace?: boolean;
  exactOnly?: boolean;
  granularity?: "auto" | "module" | "layer";
}

export const splitCommand = defineCommand<SplitOptions, Split>({
  usage: "split <path...>",
  summary: "take models apart into the repository",
  options: [
    { flags: "--name <name>", help: "name of the model (default: its folder's)" },
    { flags: "--as <tag>", help: "tag, where several versions of one name are kept (default: latest)" },
    {
      flags: "--granularity <how>",
      help: "blocks of attention and MLP (module) or of layers (layer); auto: module, and serving joins or cuts as models differ",
      parse: oneOf("--granularity", ["auto", "module", "layer"]),
    },
    { flags: "--adapter <file>", help: "the .onnx_adapter to bind (default: the only one beside the graph)" },
    {
      flags: "--context <tokens>",
      help: "the longest sequence to serve; for models that change beyond some length (default: what the model's files say)",
      parse: wholeNumber("--context", 16),
    },
    { flags: "--exact-only", help: "never merge its blocks with others that are not the same to the bit" },
    { flags: "--replace", help: "take the name over from the model that has it" },
  ],
  examples: [
    "blockllm split ./support-bot ./legal-bot ./hr-bot",
    "blockllm split ./exports/model.onnx --name support --as v2",
  ],
  async run(context, paths, options) {
    refuseForSeveral(paths, options);
    const repository = await openRepository(context.repositoryPath, { create: true });
    const models: SplitModel[] = [];
    const refused: RefusedModel[] = [];
    for (const path of paths) {
      try {
        models.push(await splitOne(context, repository, { path, ...options }));
      } catch (error) {
        // A bad model among good ones is told of at the end; a full disk ends everything.
        if (!(error instanceof BlockllmError) || error.exitCode !== 2 || paths.length === 1) throw error;
        const { code, message, hint } = error;
        context.progress.fail();
        refused.push({ path, code, message, hint: hint ?? null });
      }
    }
    // With whom blocks are shared is known once all are in.
    const sharing = await sharingOf(
      repository,
      models.map(({ name }) => name),
    );
    for (const model of models) model.blocks = sharing.find(({ name }) => name === model.name)!.blocks;
    return { models, refused };
  },
  print: printSplit,
  verdict({ models, refused }) {
    const [first] = refused;
    if (first === undefined) return null;
    const total = formatCount(models.length + refused.length, "model");
    const paths = refused.map(({ path }) => path).join(", ");
    const hint = first.hint === null ? {} : { hint: first.hint };
    return new BlockllmError(first.code, `${refused.length} of ${total} refused: ${paths}`, hint);
  },
});

function refuseForSeveral(paths: string[], { name, adapter }: SplitOptions): void {
  if (paths.length < 2 || (name === undefined && adapter === undefined)) return;
  const option = name === undefined ? "--adapter" : "--name";
  throw new BlockllmError("usage", `${option} is given for ${paths.length} models at once`, {
    hint: `split them one by one, or leave ${option} out: each model takes what its folder says`,
  });
}

async function splitOne(
  { progress, signal }: CommandContext,
  repository: Repository,
  { path, granularity, ...options }: SplitOptions & { path: string },
): Promise<SplitModel> {
  const began = performance.now();
  progress.start(`splitting ${path}`);
  const settings: AddModelOptions = {
    ...options,
    // Fine-tunes most often differ in one of the two, so apart they share more.
    granularity: granularity === "layer" ? "layer" : "module",
    signal,
    onProgress: ({ bytes }) => progress.update(`splitting ${path}: ${formatBytes(bytes)}`),
  };
  const { name, digest, document } = await addModel(repository, path, settings).catch((error: unknown) => {
    throw namePath(error, path);
  });
  // As of now: of two equal models in one command the first one brings the bytes and the second none.
  const [sharing] = (await sharingOf(repository, [name])) as [ModelSharing];
  const milliseconds = performance.now() - began;
  const there = formatPercent(1 - sharing.unique_bytes / Math.max(1, sharing.bytes));
  const blocks = document.opaque ? "kept whole" : formatCount(document.chain.length, "block");
  progress.succeed(`${name}: ${blocks}, ${there} was there already, ${formatDuration(milliseconds)}`);
  return {
    name,
    digest,
    blocks: sharing.blocks,
    bytes: sharing.bytes,
    unique_bytes: sharing.unique_bytes,
    exporter: document.exporter,
    family: document.family,
    precision: document.precision,
    opaque: document.opaque,
    recognised: document.recognised,
    warnings: document.warnings,
    milliseconds: Math.round(milliseconds),
  };
}

/** Of several models in one command, the message must say which one is bad. */
function namePath(error: unknown, path: string): unknown {
  if (!(error instanceof BlockllmError) || error.exitCode !== 2 || error.message.includes(basename(path))) return error;
  const { code, message, hint } = error;
  return new BlockllmError(code, `${path}: ${message}`, { cause: error, ...(hint === undefined ? {} : { hint }) });
}
