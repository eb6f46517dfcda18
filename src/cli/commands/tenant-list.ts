import { DEFAULT_POLICY } from "../../engine/request.ts";
import { readEntries, type TenantEntry } from "../../server/tenants/tenants-file.ts";
import { defineCommand } from "../command.ts";
import { renderTable } from "../output/table.ts";
import { TENANTS_OPTION, tenantsFile, type TenantsOption } from "../tenants-option.ts";

/** As in the file, with the number of keys that open in place of their hashes. */
interface TenantList {
  file: string;
  tenants: (Omit<TenantEntry, "keys"> & { keys: number })[];
}

export const tenantListCommand = defineCommand<TenantsOption, TenantList>({
  usage: "tenant list",
  summary: "the tenants, what they may use, and their limits",
  options: [TENANTS_OPTION],
  examples: ["blockllm tenant list", "blockllm tenant list --json"],
  async run(_context, _operands, options) {
    const file = tenantsFile(options);
    const now = Date.now();
    const opens = ({ ends }: { ends?: string | undefined }): boolean => ends === undefined || Date.parse(ends) > now;
    const entries = await readEntries(file);
    return { file, tenants: entries.map((entry) => ({ ...entry, keys: entry.keys.filter(opens).length })) };
  },
  print({ file, tenants }) {
    if (tenants.length === 0) return `${file} has no tenants: \`blockllm tenant add <name>\` adds one`;
    const columns = [
      { head: "tenant" },
      { head: "keys", align: "right" as const },
      { head: "models" },
      { head: "group" },
      { head: "priority" },
      { head: "weight", align: "right" as const },
      { head: "limits" },
    ];
    return renderTable(
      columns,
      tenants.map(({ name, keys, models, group, operator, priority, weight, limits }) => [
        operator === true ? `${name} (operator)` : name,
        keys,
        models?.join(", ") ?? "all",
        group ?? "",
        priority ?? DEFAULT_POLICY.priority,
        weight ?? DEFAULT_POLICY.weight,
        describeLimits(limits),
      ]),
    );
  },
});

function describeLimits(limits: TenantEntry["limits"]): string {
  return Object.entries(limits ?? {})
    .map(([name, value]) => `${name.replaceAll("_", " ")}: ${value}`)
    .join(", ");
}
