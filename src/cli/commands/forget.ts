import { readEnvironment } from "../../support/env.ts";
import { BlockllmError } from "../../support/errors.ts";
import { reasonOf } from "../../support/reason.ts";
import { defineCommand } from "../command.ts";
import { formatBytes } from "../output/format.ts";

interface ForgetOptions {
  url?: string;
}

interface Forgotten {
  tenant: string;
  /** Whose prompts went with the tenant's own; null: nobody's. */
  group: string | null;
  /** Of memory that its prompts were kept in. */
  bytes: number;
}

const DEFAULT_URL = "http://127.0.0.1:8080";

export const forgetCommand = defineCommand<ForgetOptions, Forgotten>({
  usage: "forget <tenant>",
  summary:
    "have a running server give up the prompts it keeps of a tenant; the key of an operator is $BLOCKLLM_API_KEY",
  options: [{ flags: "--url <address>", help: `the server (default: ${DEFAULT_URL})` }],
  examples: ["blockllm forget acme", "BLOCKLLM_API_KEY=bk-... blockllm forget acme --url http://10.0.0.5:8080"],
  async run({ signal }, [tenant = ""], { url = DEFAULT_URL }) {
    const { apiKey } = readEnvironment();
    const address = `${url.replace(/\/+$/, "")}/admin/prefixes/${encodeURIComponent(tenant)}`;
    const headers = apiKey === null ? {} : { authorization: `Bearer ${apiKey}` };
    const answer = await ask(address, { method: "DELETE", headers, signal });
    return (await answer.json()) as Forgotten;
  },
  print: ({ tenant, group, bytes }) =>
    `forgot ${formatBytes(bytes)} of prompts of ${group === null ? tenant : `${tenant} and all of its group ${group}`}`,
});

async function ask(address: string, request: RequestInit): Promise<Response> {
  const answer = await fetch(address, request).catch((cause: unknown) => {
    const reason = cause instanceof TypeError && cause.cause !== undefined ? reasonOf(cause.cause) : reasonOf(cause);
    throw new BlockllmError("server_unreachable", `no server answers at ${address}: ${reason}`, {
      hint: "give its --url",
      cause,
    });
  });
  if (answer.ok) return answer;
  const hint = "set BLOCKLLM_API_KEY to the key of an operator: blockllm tenant add <name> --operator";
  if (answer.status === 401)
    throw new BlockllmError("invalid_api_key", `the server at ${address} wants another key`, { hint });
  throw new BlockllmError("usage", `the server at ${address} answered ${answer.status}: ${await answer.text()}`, {
    hint: "is it a blockllm server of this version?",
  });
}
