import { DEFAULT_POLICY } from "../../engine/request.ts";
import { PRIORITIES, type Priority } from "../../engine/schedule/priority.ts";
import { hashApiKey, newApiKey } from "../../server/tenants/api-key.ts";
import {
  LEAST_WEIGHT,
  MOST_WEIGHT,
  TENANT_NAME,
  TENANT_NAME_RULE,
  updateTenants,
} from "../../server/tenants/tenants-file.ts";
import { BlockllmError } from "../../support/errors.ts";
import { defineCommand } from "../command.ts";
import { nameList, oneOf, realNumber, wholeNumber } from "../parse-values.ts";
import { RELOAD_ADVICE, TENANTS_OPTION, tenantsFile, type TenantsOption } from "../tenants-option.ts";

interface AddOptions extends TenantsOption {
  models?: string[];
  group?: string;
  operator?: boolean;
  priority?: Priority;
  weight?: number;
  running?: number;
  queued?: number;
  tokensPerMinute?: number;
  maxTokens?: number;
}

interface AddedTenant {
  tenant: string;
  /** Shown this once. */
  key: string;
  file: string;
}

export const tenantAddCommand = defineCommand<AddOptions, AddedTenant>({
  usage: "tenant add <name>",
  summary: "a new tenant with a new key, which is shown this once",
  options: [
    TENANTS_OPTION,
    {
      flags: "--models <names>",
      help: "models it may use, with commas between them (default: all)",
      parse: nameList("--models"),
    },
    { flags: "--group <name>", help: "tenants of one group find each other's prompts cached (default: only its own)" },
    { flags: "--operator", help: "its key also opens /metrics and /admin" },
    {
      flags: "--priority <class>",
      help: `${PRIORITIES.join(", ")}: a better class goes first (default: ${DEFAULT_POLICY.priority})`,
      parse: oneOf("--priority", PRIORITIES),
    },
    {
      flags: "--weight <number>",
      help: `its share of tokens among tenants of its class (default: ${DEFAULT_POLICY.weight})`,
      parse: realNumber("--weight", LEAST_WEIGHT, MOST_WEIGHT),
    },
    {
      flags: "--running <count>",
      help: "answers at once; more of them wait (default: as many as fit)",
      parse: wholeNumber("--running", 1),
    },
    {
      flags: "--queued <count>",
      help: "answers that may wait (default: as many as there are places left)",
      parse: wholeNumber("--queued", 1),
    },
    {
      flags: "--tokens-per-minute <count>",
      help: "of prompts and answers together (default: no limit)",
      parse: wholeNumber("--tokens-per-minute", 1),
    },
    {
      flags: "--max-tokens <count>",
      help: "the longest answer (default: what the model holds)",
      parse: wholeNumber("--max-tokens", 1),
    },
  ],
  examples: [
    "blockllm tenant add acme --models support,legal --tokens-per-minute 60000",
    "blockllm serve --tenants tenants.json --host 0.0.0.0",
  ],
  async run(_context, [name = ""], options) {
    requireName("tenant", name);
    if (options.group !== undefined) requireName("group", options.group);
    const file = tenantsFile(options);
    const key = newApiKey();
    await updateTenants(file, (entries) => {
      if (entries.some((entry) => entry.name === name)) {
        throw new BlockllmError("name_taken", `${file} has a tenant "${name}" already`, {
          hint: `blockllm tenant rotate ${name} gives it a new key`,
        });
      }
      return [...entries, toEntry(name, hashApiKey(key), options)];
    });
    return { tenant: name, key, file };
  },
  print: ({ tenant, key, file }) =>
    `key of ${tenant}: ${key}\n${file} has its hash only: it cannot be shown again\n${RELOAD_ADVICE}`,
});

function requireName(what: string, name: string): void {
  if (TENANT_NAME.test(name)) return;
  throw new BlockllmError("usage", `"${name}" is no name of a ${what}; it must be ${TENANT_NAME_RULE}`);
}

function toEntry(name: string, sha256: string, options: AddOptions) {
  const { models, group, operator, priority, weight, running, queued, tokensPerMinute, maxTokens } = options;
  const limits = {
    ...(running === undefined ? {} : { running }),
    ...(queued === undefined ? {} : { queued }),
    ...(tokensPerMinute === undefined ? {} : { tokens_per_minute: tokensPerMinute }),
    ...(maxTokens === undefined ? {} : { max_tokens: maxTokens }),
  };
  return {
    name,
    keys: [{ sha256 }],
    ...(models === undefined ? {} : { models }),
    ...(group === undefined ? {} : { group }),
    ...(operator === true ? { operator } : {}),
    ...(priority === undefined ? {} : { priority }),
    ...(weight === undefined ? {} : { weight }),
    ...(Object.keys(limits).length === 0 ? {} : { limits }),
  };
}
