import { randomUUID } from "node:crypto";
import { chmod, open, readFile, rename, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { z } from "zod";
import { DEFAULT_POLICY } from "../../engine/request.ts";
import { PRIORITIES } from "../../engine/schedule/priority.ts";
import { withLock } from "../../store/lock.ts";
import { errorCode } from "../../store/storage-error.ts";
import { BlockllmError } from "../../support/errors.ts";
import { lineOfSyntaxError, lineOfValue } from "../../support/json-lines.ts";
import { reasonOf, wrongPathReason } from "../../support/reason.ts";
import { describeIssue, foremostIssue, formatPath } from "../describe-issue.ts";
import type { Tenant } from "./tenant.ts";

/** Of tenants and groups. */
export const TENANT_NAME = /^[A-Za-z0-9][\w.-]{0,63}$/;
export const TENANT_NAME_RULE = "up to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit";
const OWNER_ONLY = 0o600;
export const LEAST_WEIGHT = 0.01;
export const MOST_WEIGHT = 100;
/** Permission bits of those who are neither the owner nor of its group. */
const OTHERS = 0o006;

const name = z.string().regex(TENANT_NAME, `expected ${TENANT_NAME_RULE}`);
const count = z.int().min(1);

const tenantSchema = z.strictObject({
  name,
  keys: z.array(z.strictObject({ sha256: z.string().regex(/^[0-9a-f]{64}$/), ends: z.iso.datetime().optional() })),
  models: z.array(z.string().min(1)).optional(),
  group: name.optional(),
  operator: z.boolean().optional(),
  priority: z.enum(PRIORITIES).optional(),
  weight: z.number().min(LEAST_WEIGHT).max(MOST_WEIGHT).optional(),
  limits: z
    .strictObject({
      running: count.optional(),
      queued: count.optional(),
      tokens_per_minute: count.optional(),
      max_tokens: count.optional(),
    })
    .optional(),
});
const fileSchema = z.strictObject({ version: z.literal(1), tenants: z.array(tenantSchema) });

/** A tenant as the file has it. What is left out is not limited, and models left out are all models. */
export type TenantEntry = z.infer<typeof tenantSchema>;

/** Errors: tenants_invalid naming file, line and field; usage where there is no such file. */
export async function readTenants(path: string): Promise<Tenant[]> {
  return (await readEntries(path)).map(toTenant);
}

/** As the file has them. Errors as readTenants. */
export async function readEntries(path: string): Promise<TenantEntry[]> {
  try {
    return parseTenants(await readFile(path, "utf8"), path);
  } catch (cause) {
    const reason = wrongPathReason(cause);
    if (reason === null) throw cause;
    throw new BlockllmError("usage", `no file of tenants at ${path}: ${reason}`, {
      hint: `blockllm tenant add <name> --tenants ${path} makes one`,
      cause,
    });
  }
}

/**
 * Reads, changes and writes the file while no other command does; makes one that only its owner can read where there is
 * none. The file is the old one or the new one at any moment. Errors as readTenants; what `change` throws.
 */
export async function updateTenants(path: string, change: (entries: TenantEntry[]) => TenantEntry[]): Promise<void> {
  const folder = dirname(path);
  if ((await fileMode(folder)) === null)
    throw new BlockllmError("usage", `no file of tenants can be made at ${path}: there is no folder ${folder}`);
  await withLock(`${path}.lock`, async () => {
    const mode = await fileMode(path);
    const entries = change(mode === null ? [] : await readEntries(path));
    const text = `${JSON.stringify({ version: 1, tenants: entries }, null, 2)}\n`;
    parseTenants(text, path);
    await replaceFile(path, text, mode ?? OWNER_ONLY);
  });
}

/** Whether anybody on the machine may read or write the file: who writes it lets himself in. */
export async function isOpenToOthers(path: string): Promise<boolean> {
  return process.platform !== "win32" && (((await fileMode(path)) ?? 0) & OTHERS) !== 0;
}

/** `path` names the text in errors. */
export function parseTenants(text: string, path: string): TenantEntry[] {
  const value = parseJson(text, path);
  const parsed = fileSchema.safeParse(value);
  if (!parsed.success) {
    const issue = foremostIssue(parsed.error);
    // Who puts a key where its hash belongs must not find it in a log.
    const isHash = issue.path.at(-1) === "sha256";
    const { message } = describeIssue(issue, value, "the file");
    throw invalid(
      { text, path, field: issue.path },
      isHash ? `"${formatPath(issue.path)}" is not the sha256 of a key in 64 small hex digits` : message,
    );
  }
  const { tenants } = parsed.data;
  const names = tenants.map((tenant) => tenant.name);
  const twice = names.findIndex((one, at) => names.indexOf(one) < at);
  if (twice !== -1)
    throw invalid({ text, path, field: ["tenants", twice, "name"] }, `two tenants are called "${names[twice]}"`);
  checkKeys(tenants, { text, path });
  return tenants;
}

function checkKeys(tenants: TenantEntry[], { text, path }: { text: string; path: string }): void {
  const seen = new Set<string>();
  for (const [at, { keys }] of tenants.entries()) {
    for (const [which, { sha256 }] of keys.entries()) {
      if (seen.has(sha256))
        throw invalid({ text, path, field: ["tenants", at, "keys", which] }, "the same key stands in two places");
      seen.add(sha256);
    }
  }
}

function toTenant({ name: called, keys, models, group, operator, priority, weight, limits }: TenantEntry): Tenant {
  return {
    name: called,
    keys: keys.map(({ sha256, ends }) => ({ sha256, ends: ends === undefined ? null : Date.parse(ends) })),
    models: models ?? null,
    group: group ?? null,
    operator: operator ?? false,
    priority: priority ?? DEFAULT_POLICY.priority,
    weight: weight ?? DEFAULT_POLICY.weight,
    limits: {
      running: limits?.running ?? null,
      queued: limits?.queued ?? null,
      tokensPerMinute: limits?.tokens_per_minute ?? null,
      maxTokens: limits?.max_tokens ?? null,
    },
  };
}

function parseJson(text: string, path: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    const place = `${path} line ${lineOfSyntaxError(text)}`;
    throw new BlockllmError("tenants_invalid", `${place}: not JSON: ${reasonOf(cause)}`, { hint: HINT, cause });
  }
}

const HINT = "correct the file; `blockllm tenant list` then shows what it says";

function invalid(
  { text, path, field }: { text: string; path: string; field: readonly PropertyKey[] },
  problem: string,
): BlockllmError {
  return new BlockllmError("tenants_invalid", `${path} line ${lineOfValue(text, field)}: ${problem}`, { hint: HINT });
}

async function fileMode(path: string): Promise<number | null> {
  try {
    return (await stat(path)).mode & 0o777;
  } catch (error) {
    if (errorCode(error) === "ENOENT") return null;
    throw error;
  }
}

async function replaceFile(path: string, text: string, mode: number): Promise<void> {
  const incoming = `${path}.${randomUUID()}`;
  try {
    const handle = await open(incoming, "wx", OWNER_ONLY);
    try {
      await handle.writeFile(text);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await chmod(incoming, mode);
    await rename(incoming, path);
  } catch (error) {
    await rm(incoming, { force: true });
    throw error;
  }
}
