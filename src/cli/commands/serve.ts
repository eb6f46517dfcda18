import { once } from "node:events";
import { engineConfig } from "../../engine/engine-config.ts";
import { type EngineClient, startEngine } from "../../engine/engine-client.ts";
import { machineMemory } from "../../engine/memory/machine-memory.ts";
import type { EngineStats } from "../../engine/stats.ts";
import { type RunningServer, startServer } from "../../server/server.ts";
import { readTenants } from "../../server/tenants/tenants-file.ts";
import { indexPath } from "../../store/index-file.ts";
import { keepInUse } from "../../store/keep-in-use.ts";
import { openRepository } from "../../store/open-repository.ts";
import { createLog, type Log } from "../../support/log.ts";
import { loadTextModels } from "../../text/load-text-model.ts";
import type { DeviceWish } from "../../engine/device/device.ts";
import { defineCommand } from "../command.ts";
import type { CommandContext } from "../context.ts";
import { DEVICE_OPTION, noteDevice } from "../device-option.ts";
import { LANES_OPTION } from "../lanes-option.ts";
import { formatBytes, formatCount, formatDuration } from "../output/format.ts";
import { renderJson } from "../output/json.ts";
import { type Reloadable, reloadOnHangup, startReloading } from "../reload.ts";
import { changeModels } from "../serve-models.ts";
import { describeTenants, loadTenants, requireKeysBeyondLoopback } from "../serve-tenants.ts";
import { type FileWatch, watchFiles } from "../watch-files.ts";
import { byteCount, nameList, oneOf, originList, wholeNumber } from "../parse-values.ts";

interface ServeOptions {
  models?: string[];
  tenants?: string;
  host?: string;
  open?: boolean;
  cors?: string[];
  port?: number;
  memory?: number;
  kvMemory?: number | "auto";
  maxBatchTokens?: number;
  maxQueue?: number;
  device?: DeviceWish;
  speculate?: "auto" | "off";
  solo?: "auto" | "off";
  shareBatches?: "auto" | "always";
  lanes?: number;
  swap?: "auto" | "off";
  prefixCache?: "on" | "off";
  watch?: boolean;
}

const DEFAULT_HOST = "127.0.0.1";
const DEFAULT_PORT = 8080;
const DEFAULTS = engineConfig();

export const serveCommand = defineCommand<ServeOptions, void>({
  usage: "serve",
  summary: "one OpenAI-compatible server for every model; ends on SIGTERM when what it has is answered",
  options: [
    {
      flags: "--models <names>",
      help: "models to serve, with commas between them (default: all)",
      parse: nameList("--models"),
    },
    {
      flags: "--tenants <file>",
      help: "who may use the server; `blockllm tenant add` makes the file, SIGHUP has it read again (default: everybody)",
    },
    { flags: "--host <address>", help: `where to listen (default: ${DEFAULT_HOST}, this machine only)` },
    { flags: "--open", help: "answer everybody who reaches a --host that is not this machine alone, without a key" },
    {
      flags: "--cors <origins>",
      help: "web pages that may use it, with commas between their origins; *: all (default: none)",
      parse: originList("--cors"),
    },
    {
      flags: "--port <number>",
      help: `0: any free one (default: ${DEFAULT_PORT})`,
      parse: wholeNumber("--port", 0, 65_535),
    },
    {
      flags: "--watch",
      help: "serve models as they come to the repository and go, and read the file of tenants when it changes",
    },
    DEVICE_OPTION,
    {
      flags: "--memory <size>",
      help: "for weights, activations, keys and values together (default: a share of what is free at start)",
      parse: byteCount("--memory"),
    },
    {
      flags: "--kv-memory <size>",
      help: "the most of it that keys and values may have; auto: whatever weights leave (default: auto)",
      parse: (text) => (text === "auto" ? text : byteCount("--kv-memory")(text)),
    },
    {
      flags: "--max-batch-tokens <count>",
      help: `tokens in one step, of all sequences together (default: ${DEFAULTS.maxBatchTokens})`,
      parse: wholeNumber("--max-batch-tokens", DEFAULTS.prefillChunk + 1),
    },
    {
      flags: "--max-queue <count>",
      help: `answers that may wait for their first step; more are told when to come back (default: ${DEFAULTS.maxQueue})`,
      parse: wholeNumber("--max-queue", 1),
    },
    {
      flags: "--speculate <when>",
      help: `auto: guess repeated text ahead where that is measured to pay; off (default: ${DEFAULTS.speculate})`,
      parse: oneOf("--speculate", ["auto", "off"]),
    },
    {
      flags: "--prefix-cache <on|off>",
      help: `keep prompts cached for requests that begin alike, while nobody needs the memory (default: ${DEFAULTS.prefixCache})`,
      parse: oneOf("--prefix-cache", ["on", "off"]),
    },
    {
      flags: "--swap <auto|off>",
      help: "auto: what sequences that give way had computed waits on disk, where that is measured to be sooner than computing it again (default: auto)",
      parse: oneOf("--swap", ["auto", "off"]),
    },
    {
      flags: "--solo <auto|off>",
      help: "auto: a model that answers one request at a time gets a session of its own, for its weights a second time, while memory is plenty (default: auto)",
      parse: oneOf("--solo", ["auto", "off"]),
    },
    {
      flags: "--share-batches <auto|always>",
      help: `always: also requests to int4 models of other accuracy levels than 4 (onnx-community's q4, say), several times as fast together, and half as fast alone (default: ${DEFAULTS.shareBatches})`,
      parse: oneOf("--share-batches", ["auto", "always"]),
    },
    LANES_OPTION,
  ],
  examples: ["blockllm serve", "blockllm serve --models support,legal --port 8080 --memory 8GB"],
  async run(context, _operands, options) {
    requireKeysBeyondLoopback(options.host ?? DEFAULT_HOST, options);
    // Before the models are loaded: a mistake in a small file should not take minutes to be told.
    if (options.tenants !== undefined) await readTenants(options.tenants);
    // Before the models are read: what changes while they are loaded is seen, too.
    const watch = options.watch ? await watchFiles(watchedFiles(context.repositoryPath, options)) : null;
    const engine = await loadEngine(context, options);
    try {
      await serveUntilStopped(context, engine, { ...options, watchFor: watch });
    } finally {
      watch?.stop();
      await engine.close();
    }
  },
});

async function loadEngine(context: CommandContext, options: ServeOptions): Promise<EngineClient> {
  const { repositoryPath, progress, signal } = context;
  const began = performance.now();
  progress.start("loading models");
  const engine = await startEngine({
    repository: repositoryPath,
    models: options.models ?? "all",
    signal,
    ...(options.device === undefined ? {} : { device: options.device }),
    ...(options.memory === undefined ? {} : { memoryBytes: options.memory }),
    ...(options.kvMemory === undefined || options.kvMemory === "auto" ? {} : { kvMemoryBytes: options.kvMemory }),
    ...(options.maxBatchTokens === undefined ? {} : { maxBatchTokens: options.maxBatchTokens }),
    ...(options.maxQueue === undefined ? {} : { maxQueue: options.maxQueue }),
    ...(options.speculate === undefined ? {} : { speculate: options.speculate }),
    ...(options.prefixCache === undefined ? {} : { prefixCache: options.prefixCache }),
    ...(options.shareBatches === undefined ? {} : { shareBatches: options.shareBatches }),
    ...(options.lanes === undefined ? {} : { lanes: options.lanes }),
    solo: options.solo ?? "auto",
    swap: options.swap ?? "auto",
  });
  const stats = await engine.stats();
  const took = formatDuration(performance.now() - began);
  progress.succeed(
    `loaded ${formatCount(engine.models.length, "model")}, ${formatBytes(stats.weightBytes)} of weights, in ${took}`,
  );
  noteDevice(engine, progress);
  progress.note(describeMemory(stats, options.memory === undefined ? memoryOwner(engine) : null));
  return engine;
}

/** Whose memory a share was taken of. */
function memoryOwner({ device }: EngineClient): string {
  if (device.memory !== undefined) return "device";
  const { boundBy, totalBytes } = machineMemory();
  return `${boundBy}'s ${formatBytes(totalBytes)}`;
}

/** `owner` is null where the memory was asked for. */
function describeMemory(stats: EngineStats, owner: string | null): string {
  const { memoryBytesLimit, weightBytes, kvBytesLimit, segments, loadedSegments } = stats;
  const left = Math.min(kvBytesLimit, memoryBytesLimit - weightBytes);
  const source = owner === null ? "" : ` (of the ${owner}; --memory sets it)`;
  const later =
    loadedSegments === segments ? "" : `; ${segments - loadedSegments} of ${segments} segments wait to be asked for`;
  return `memory: ${formatBytes(memoryBytesLimit)}${source}, ${formatBytes(left)} of it left for keys and values${later}`;
}

function watchedFiles(repositoryPath: string, { tenants }: ServeOptions): string[] {
  return [indexPath(repositoryPath), ...(tenants === undefined ? [] : [tenants])];
}

async function serveUntilStopped(
  context: CommandContext,
  engine: EngineClient,
  options: ServeOptions & { watchFor: FileWatch | null },
): Promise<void> {
  const repository = await openRepository(context.repositoryPath);
  const documents = new Map(engine.models.map(({ name, document }) => [name, document]));
  const models = engine.models.map(({ name }) => name);
  const log = createLog((line) => void (context.quiet || process.stderr.write(line)));
  const tenants = options.tenants === undefined ? null : await loadTenants(options.tenants, models);
  for (const warning of tenants?.warnings ?? []) context.progress.note(`warning: ${warning}`);
  const onError = (error: unknown): void => log.error("blobs of the models could not be touched", error);
  const inUse = keepInUse(repository, { onError });
  await inUse.use(models);
  const server = await startServer({
    engine,
    texts: await loadTextModels(repository, documents),
    changeModels: async (names) => {
      const texts = await changeModels(engine, context.repositoryPath, names);
      void inUse.use(engine.models.map(({ name }) => name)).catch(onError);
      return texts;
    },
    host: options.host ?? DEFAULT_HOST,
    port: options.port ?? DEFAULT_PORT,
    ...(tenants === null ? {} : { tenants: tenants.tenants }),
    ...(options.maxQueue === undefined ? {} : { limits: { queuePlaces: options.maxQueue } }),
    ...(options.cors === undefined ? {} : { cors: options.cors }),
    log,
  });
  const all = reloadables(server, { options, engine, log, repositoryPath: context.repositoryPath });
  const reloading = startReloading(all, log);
  const stopListening = reloadOnHangup(all, reloading);
  options.watchFor?.start((changed) => reloading.ask(all.filter(({ file }) => file === changed)));
  context.write(context.json ? `${renderJson({ url: server.url, models })}\n` : `listening on ${server.url}\n`);
  if (!context.signal.aborted) await once(context.signal, "abort");
  stopListening();
  await reloading.stop();
  inUse.stop();
  context.progress.start("finishing what is running");
  await server.close();
  context.progress.succeed("stopped");
}

interface ReloadableParts {
  options: ServeOptions;
  engine: EngineClient;
  log: Log;
  repositoryPath: string;
}

/** Models first: a tenant may be given one that has just come. */
function reloadables(server: RunningServer, { options, engine, log, repositoryPath }: ReloadableParts): Reloadable[] {
  const models: Reloadable = {
    what: "models",
    file: indexPath(repositoryPath),
    reload: async () => {
      await server.changeModels(options.models ?? "all");
      return formatCount(engine.models.length, "model");
    },
  };
  const file = options.tenants;
  if (file === undefined) return [models];
  const reload = async (): Promise<string> => {
    const { tenants, warnings } = await loadTenants(
      file,
      engine.models.map(({ name }) => name),
    );
    server.replaceTenants(tenants);
    for (const warning of warnings) log.info(`warning: ${warning}`);
    return describeTenants(tenants);
  };
  return [models, { what: "tenants", file, reload }];
}
