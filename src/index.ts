/** The library behind the command line. What is not named here is internal and may change with any version. */
// oxlint-disable-next-line import/no-unassigned-import -- it must come first
import "./support/no-telemetry.ts";

export { openRepository } from "./store/open-repository.ts";
export type { Repository } from "./store/repository.ts";
export { type AddedModel, addModel, type AddModelOptions } from "./store/add-model.ts";
export { reportSharing, type SharingReport } from "./store/sharing.ts";
export { type AppliedTiers, applyTiers, type ApplyOptions } from "./store/apply-tiers.ts";
export { markExactOnly, type Undone, undoMerges } from "./store/undo-merges.ts";
export { exportModel, type ExportedModel } from "./chain/export-model.ts";
export { type Verification, verifyModel, type VerifyOptions } from "./engine/verify-model.ts";
export { type EngineClient, type EngineOptions, startEngine } from "./engine/engine-client.ts";
export { type RunningServer, type ServerOptions, startServer } from "./server/server.ts";
export { readTenants } from "./server/tenants/tenants-file.ts";
export type { Tenant } from "./server/tenants/tenant.ts";
export { loadTextModels } from "./text/load-text-model.ts";
export { BlockllmError, type ErrorCode } from "./support/errors.ts";
