/** What a user can cause: a stable code, a message with the value and the limit, and the next thing to type. */
export class BlockllmError extends Error {
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  /** When trying again may help. */
  readonly retryAfterSeconds: number | undefined;

  constructor(
    code: ErrorCode,
    message: string,
    options: { hint?: string; cause?: unknown; retryAfterSeconds?: number } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "BlockllmError";
    this.code = code;
    this.hint = options.hint;
    this.retryAfterSeconds = options.retryAfterSeconds;
  }

  /** Process exit code: 1 failed, 2 wrong usage or bad input, 3 a gate was not met, 130 interrupted. */
  get exitCode(): number {
    return ERRORS[this.code].exit;
  }

  /** HTTP status the server answers with. */
  get status(): number {
    return ERRORS[this.code].status;
  }
}

/** Every code, once. A test holds this table against the README and against what the source throws. */
export const ERRORS = {
  usage: { exit: 2, status: 400 },
  interrupted: { exit: 130, status: 499 },
  out_of_space: { exit: 1, status: 507 },
  io_failed: { exit: 1, status: 500 },

  model_not_found: { exit: 2, status: 404 },
  model_invalid: { exit: 2, status: 422 },
  model_unsupported: { exit: 2, status: 422 },
  model_too_large: { exit: 2, status: 422 },
  external_data_missing: { exit: 2, status: 422 },
  external_data_short: { exit: 2, status: 422 },
  external_data_escapes: { exit: 2, status: 422 },
  tokenizer_missing: { exit: 2, status: 400 },
  name_taken: { exit: 2, status: 409 },
  name_invalid: { exit: 2, status: 422 },

  repository_not_found: { exit: 2, status: 404 },
  repository_invalid: { exit: 1, status: 500 },
  repository_locked: { exit: 1, status: 503 },
  model_changed: { exit: 1, status: 409 },
  original_not_kept: { exit: 2, status: 409 },
  zstd_missing: { exit: 1, status: 500 },
  blob_missing: { exit: 1, status: 500 },
  blob_corrupt: { exit: 1, status: 500 },

  gate_not_met: { exit: 3, status: 422 },
  verify_failed: { exit: 3, status: 422 },

  request_invalid: { exit: 2, status: 400 },
  request_too_large: { exit: 2, status: 413 },
  route_not_found: { exit: 2, status: 404 },
  method_not_allowed: { exit: 2, status: 405 },
  context_length_exceeded: { exit: 2, status: 400 },
  origin_not_allowed: { exit: 2, status: 403 },
  invalid_api_key: { exit: 2, status: 401 },
  deadline_exceeded: { exit: 1, status: 504 },
  rate_limit_exceeded: { exit: 1, status: 429 },
  queue_full: { exit: 1, status: 429 },
  tenants_invalid: { exit: 2, status: 500 },
  tenant_not_found: { exit: 2, status: 404 },
  server_draining: { exit: 1, status: 503 },
  address_in_use: { exit: 1, status: 500 },
  memory_exceeded: { exit: 2, status: 503 },
  scenario_invalid: { exit: 2, status: 400 },
  server_unreachable: { exit: 1, status: 502 },
  device_unavailable: { exit: 2, status: 503 },
  device_lost: { exit: 1, status: 503 },
  engine_failed: { exit: 1, status: 500 },
} as const satisfies Record<string, { exit: number; status: number }>;

export type ErrorCode = keyof typeof ERRORS;
