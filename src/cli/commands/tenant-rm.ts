import { updateTenants } from "../../server/tenants/tenants-file.ts";
import { defineCommand } from "../command.ts";
import { RELOAD_ADVICE, TENANTS_OPTION, tenantNotFound, tenantsFile, type TenantsOption } from "../tenants-option.ts";

interface RemovedTenant {
  removed: string;
  file: string;
}

export const tenantRmCommand = defineCommand<TenantsOption, RemovedTenant>({
  usage: "tenant rm <name>",
  summary: "a tenant and its keys out of the file",
  options: [TENANTS_OPTION],
  examples: ["blockllm tenant rm acme"],
  async run(_context, [name = ""], options) {
    const file = tenantsFile(options);
    await updateTenants(file, (entries) => {
      if (!entries.some((entry) => entry.name === name)) throw tenantNotFound(name, file);
      return entries.filter((entry) => entry.name !== name);
    });
    return { removed: name, file };
  },
  print: ({ removed, file }) => `removed ${removed} from ${file}; ${RELOAD_ADVICE}`,
});
