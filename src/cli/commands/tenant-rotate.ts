import { hashApiKey, newApiKey } from "../../server/tenants/api-key.ts";
import { updateTenants } from "../../server/tenants/tenants-file.ts";
import { defineCommand } from "../command.ts";
import { duration } from "../parse-values.ts";
import { RELOAD_ADVICE, TENANTS_OPTION, tenantNotFound, tenantsFile, type TenantsOption } from "../tenants-option.ts";

interface RotateOptions extends TenantsOption {
  keepOld?: number;
}

interface RotatedTenant {
  tenant: string;
  /** Shown this once. */
  key: string;
  /** Until when the keys before it still open; null: they no longer do. */
  old_keys_end: string | null;
  file: string;
}

export const tenantRotateCommand = defineCommand<RotateOptions, RotatedTenant>({
  usage: "tenant rotate <name>",
  summary: "a new key for a tenant; the old ones end",
  options: [
    TENANTS_OPTION,
    {
      flags: "--keep-old <duration>",
      help: "the old keys open for that long still, like 1h or 7d (default: not at all)",
      parse: duration("--keep-old"),
    },
  ],
  examples: ["blockllm tenant rotate acme --keep-old 1h"],
  async run(_context, [name = ""], options) {
    const file = tenantsFile(options);
    const key = newApiKey();
    const now = Date.now();
    const ends = options.keepOld ? new Date(now + options.keepOld).toISOString() : null;
    await updateTenants(file, (entries) => {
      const entry = entries.find((one) => one.name === name);
      if (!entry) throw tenantNotFound(name, file);
      const alive = entry.keys.filter((old) => old.ends === undefined || Date.parse(old.ends) > now);
      const kept = ends === null ? [] : alive.map((old) => ({ ...old, ends: earlier(old.ends, ends) }));
      entry.keys = [...kept, { sha256: hashApiKey(key) }];
      return entries;
    });
    return { tenant: name, key, old_keys_end: ends, file };
  },
  print: ({ tenant, key, old_keys_end }) => {
    const old = old_keys_end === null ? "the old keys no longer open" : `the old keys open until ${old_keys_end}`;
    return `key of ${tenant}: ${key}\n${old}\n${RELOAD_ADVICE}`;
  },
});

function earlier(a: string | undefined, b: string): string {
  return a !== undefined && Date.parse(a) < Date.parse(b) ? a : b;
}
