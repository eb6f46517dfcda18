import type { FinishReason } from "../generation.ts";
import type { WireFinishReason } from "./wire.ts";

/** OpenAI knows no word for an answer that was cut short from outside: `length` says that there would be more. */
export function toFinishReason(reason: FinishReason): WireFinishReason {
  switch (reason) {
    case "stop":
      return "stop";
    case "length":
    case "deadline":
    case "cancelled":
      return "length";
  }
}
