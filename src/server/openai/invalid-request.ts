import { BlockllmError } from "../../support/errors.ts";

/** A request body that cannot be served; `param` is the key at fault, as OpenAI's errors name it. */
export class InvalidRequest extends BlockllmError {
  readonly param: string | null;

  constructor(message: string, param: string | null, options: { hint?: string; cause?: unknown } = {}) {
    super("request_invalid", message, options);
    this.param = param;
  }
}
