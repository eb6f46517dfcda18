import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { exportModel } from "../chain/export-model.ts";
import type { Repository } from "../store/repository.ts";
import { errorCode } from "../store/storage-error.ts";
import { BlockllmError } from "../support/errors.ts";
import { makeFolder } from "../support/make-folder.ts";
import { rankDevices, startOnFirst } from "./device/choose-device.ts";
import type { DeviceWish } from "./device/device.ts";
import { engineConfig } from "./engine-config.ts";
import { openForward, type Forward } from "./forward.ts";
import { areTies, certaintyOf, type Certainty, largestDifference, type Parting } from "./undecided.ts";
import { openWholeModel, type WholeModel } from "./whole-model.ts";

export interface VerifyOptions {
  /** The model as it came; without it, the chain is reassembled into one graph and compared with that. */
  against?: string;
  /** The `.onnx_adapter` that fills adapter inputs of `against` (default: the only one beside it). */
  adapter?: string;
  /** Token lists to compare on; without them, a fixed choice over the whole vocabulary. */
  prompts?: readonly (readonly number[])[];
  /** What the chain runs on; the whole model it is compared with runs on the CPU. Default: cpu. */
  device?: DeviceWish;
  signal?: AbortSignal;
}

export interface Verification {
  model: string;
  device: string;
  /** Why there. */
  device_reason: string;
  /** Devices that were tried and left out. */
  device_warnings: string[];
  passed: boolean;
  max_abs_logit_diff: number;
  /** Mean over positions of KL(whole ‖ chain), nats. */
  kl: number;
  /** Share of positions with the same likeliest token. */
  top1: number;
  greedy_equal: boolean;
  /**
   * They are not, but only where the whole model itself is undecided (undecided.ts), and the chain is no farther from it than
   * twice its own difference.
   */
  greedy_tied: boolean;
  /** Largest difference of the whole model's logits to its own, fed token by token; null: the greedy tokens are equal. */
  own_logit_diff: number | null;
  /** Positions compared. */
  tokens: number;
  blobs_checked: number;
  against: string;
  /** What `passed` means for this model. */
  limit: { max_abs_logit_diff: number | null; kl: number };
}

/** float32 sums in another order differ by this much at most. */
const EXACT = { max_abs_logit_diff: 1e-4, kl: 1e-6 };
/** Other kernels than those it is compared with, and a device's own exponentials. */
const ON_DEVICE = { max_abs_logit_diff: 1e-2, kl: 1e-5 };
/** Activations are rounded to 8 or 16 bits on the way, and a last-bit difference can move such a rounding. */
const ROUNDED = { max_abs_logit_diff: null, kl: 1e-2 };
const GREEDY_TOKENS = 16;

/** Runs the chain and the whole model side by side on the same tokens, and re-hashes every blob of the model. */
export async function verifyModel(
  repository: Repository,
  name: string,
  options: VerifyOptions = {},
): Promise<Verification> {
  const { name: model, document, manifest } = await repository.readModel(name);
  const wish = options.device ?? "cpu";
  const choices = await rankDevices(wish);
  const blobs = [manifest.config, ...manifest.layers];
  for (const { digest } of blobs) for await (const _ of repository.blobs.stream(digest, options.signal)) void _;
  const temporary = options.against === undefined ? await reassemble(repository, model, options.signal) : null;
  const against = options.against ?? temporary!;
  try {
    const whole = await openWholeModel(against, {
      vocabSize: document.vocabSize,
      threads: engineConfig({}).threads,
      stepwise: document.oneTokenAtATime === true,
      ...(options.adapter === undefined ? {} : { adapter: options.adapter }),
    });
    const { started: chain, choice } = await startOnFirst(
      choices,
      async ({ devices }) =>
        openForward(repository, model, { device: devices.join(","), deviceStrict: wish !== "auto" }),
      options.signal,
    );
    const { hostReason } = chain.model;
    const device = hostReason === undefined ? choice.devices.join(",") : "cpu";
    try {
      const prompts = options.prompts ?? defaultPrompts(document.vocabSize, document.contextLength);
      checkTokens(prompts, document.vocabSize);
      const compared = await compare(whole, chain, {
        prompts,
        vocabulary: document.vocabSize,
        ...(options.signal === undefined ? {} : { signal: options.signal }),
      });
      const exact = device === "cpu" ? EXACT : ON_DEVICE;
      const rounds = document.precision !== "fp32" || device === "webgpu:fp16";
      const limit = rounds ? ROUNDED : exact;
      const passed =
        (compared.greedy_equal || (rounds && compared.greedy_tied)) &&
        compared.kl <= limit.kl &&
        (limit.max_abs_logit_diff === null || compared.max_abs_logit_diff <= limit.max_abs_logit_diff);
      return {
        model,
        device,
        device_reason: hostReason ?? choice.reason,
        device_warnings: choice.warnings,
        passed,
        ...compared,
        blobs_checked: blobs.length,
        against: options.against ?? "the chain reassembled into one graph",
        limit,
      };
    } finally {
      await chain.close();
      await whole.close();
    }
  } finally {
    if (temporary !== null) await rm(join(temporary, ".."), { recursive: true, force: true });
  }
}

async function reassemble(repository: Repository, name: string, signal: AbortSignal | undefined): Promise<string> {
  const parent = await makeWorkplace(repository.root);
  const folder = join(parent, "model");
  await exportModel(repository, name, folder, signal === undefined ? {} : { signal });
  return folder;
}

/**
 * In the repository's deletable part, where there is room for a model; in the temporary folder, which may be memory, only
 * where the repository may not be written.
 */
async function makeWorkplace(root: string): Promise<string> {
  const cache = join(root, "cache");
  try {
    await makeFolder(cache);
    return await mkdtemp(join(cache, "verify-"));
  } catch (error) {
    if (!["EROFS", "EACCES", "EPERM"].includes(errorCode(error) ?? "")) throw error;
    return await mkdtemp(join(tmpdir(), "blockllm-verify-"));
  }
}

type Compared = Pick<
  Verification,
  "max_abs_logit_diff" | "kl" | "top1" | "greedy_equal" | "greedy_tied" | "own_logit_diff" | "tokens"
>;

interface Comparison {
  prompts: readonly (readonly number[])[];
  vocabulary: number;
  signal?: AbortSignal;
}

async function compare(
  whole: WholeModel,
  chain: Forward,
  { prompts, vocabulary, signal }: Comparison,
): Promise<Compared> {
  let [most, divergence, agreeing, tokens] = [0, 0, 0, 0];
  const partings: Parting[] = [];
  for (const prompt of prompts) {
    signal?.throwIfAborted();
    const [expected, given] = [await whole.logits(prompt), await chain.logits(prompt)];
    for (let at = 0; at < prompt.length; at++, tokens++) {
      const [a, b] = [expected, given].map((all) => all.subarray(at * vocabulary, (at + 1) * vocabulary)) as [
        Float32Array,
        Float32Array,
      ];
      most = Math.max(most, largestDifference(a, b));
      divergence += klDivergence(a, b);
      agreeing += Number(indexOfMost(a) === indexOfMost(b));
    }
    const [its, own] = [await whole.greedy(prompt, GREEDY_TOKENS), await chain.greedy(prompt, GREEDY_TOKENS)];
    const at = its.findIndex((token, index) => token !== own[index]);
    if (at >= 0)
      partings.push({ tokens: [...prompt, ...its.slice(0, at)], candidates: [its[at]!, own[at]!], vocabulary });
  }
  const certainties: Certainty[] = [];
  for (const parting of partings) certainties.push(await certaintyOf(whole, parting));
  return {
    max_abs_logit_diff: most,
    kl: divergence / tokens,
    top1: agreeing / tokens,
    greedy_equal: partings.length === 0,
    greedy_tied: partings.length > 0 && areTies(certainties, most),
    own_logit_diff: partings.length === 0 ? null : Math.max(...certainties.map(({ ownDifference }) => ownDifference)),
    tokens,
  };
}

/** KL(softmax a ‖ softmax b) in nats. */
function klDivergence(a: Float32Array, b: Float32Array): number {
  const [logA, logB] = [logSumExp(a), logSumExp(b)];
  let sum = 0;
  for (let i = 0; i < a.length; i++) {
    const logP = a[i]! - logA;
    sum += Math.exp(logP) * (logP - (b[i]! - logB));
  }
  return Math.max(0, sum);
}

function logSumExp(values: Float32Array): number {
  const most = values.reduce((a, b) => Math.max(a, b), -Infinity);
  return most + Math.log(values.reduce((sum, value) => sum + Math.exp(value - most), 0));
}

function indexOfMost(values: Float32Array): number {
  return values.reduce((best, value, i) => (value > values[best]! ? i : best), 0);
}

/** Three lists, the longest beyond one prefill chunk, of tokens spread over the vocabulary; the same every time. */
export function defaultPrompts(vocabulary: number, contextLength: number | null): number[][] {
  const room = Math.max(1, (contextLength ?? Infinity) - GREEDY_TOKENS);
  return [1, 17, 90].map((length, which) =>
    Array.from({ length: Math.min(length, room) }, (_, i) => (7 + which * 1009 + i * 7919) % vocabulary),
  );
}

function checkTokens(prompts: readonly (readonly number[])[], vocabulary: number): void {
  const outside = prompts.flat().find((token) => !Number.isInteger(token) || token < 0 || token >= vocabulary);
  if (outside !== undefined || prompts.some((prompt) => prompt.length === 0)) {
    throw new BlockllmError(
      "usage",
      outside === undefined
        ? "a prompt without tokens"
        : `token ${outside} is not one of the ${vocabulary} of this model`,
      { hint: "give token ids, e.g. --tokens 1,2,3" },
    );
  }
}
