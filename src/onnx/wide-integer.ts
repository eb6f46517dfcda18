import { BlockllmError } from "../support/errors.ts";

/**
 * A signed 64-bit integer from its unsigned low and signed high half. Exporters write "no limit" as a value within
 * 1024 of either end of int64 (INT64_MAX, INT64_MIN + 1); those become Number.MAX_SAFE_INTEGER or MIN_SAFE_INTEGER.
 * Any other value beyond 2^53 cannot be a JavaScript number: `model_unsupported`, with `where` in the message.
 */
export function wideToNumber(low: number, high: number, where: () => string): number {
  if (high >= -0x200000 && high < 0x200000) {
    const value = high * 2 ** 32 + low;
    if (value >= Number.MIN_SAFE_INTEGER) return value;
  }
  if (high === 0x7fffffff && low >= 2 ** 32 - 1024) return Number.MAX_SAFE_INTEGER;
  if (high === -0x80000000 && low <= 1024) return Number.MIN_SAFE_INTEGER;
  const exact = (BigInt(high) << 32n) | BigInt(low);
  throw new BlockllmError("model_unsupported", `${where()}: ${exact} is beyond ±${Number.MAX_SAFE_INTEGER}`);
}
