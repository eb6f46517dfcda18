/** The library behind the command line. Everything else is internal and may change with any version. */
export { openRepository } from "./store/open-repository.ts";
export { planChains } from "./chain/plan.ts";
export { resolveChain } from "./chain/resolve-chain.ts";
export { BlockllmError, type ErrorCode } from "./support/errors.ts";
