/** What became of one question. Times in seconds since the run began. */
export interface Sample {
  index: number;
  model: string;
  tenant: number;
  /** When it was due: in an open loop the moment of its arrival, however late it could be sent. */
  due: number;
  /** First sent. */
  sent: number;
  first: number | null;
  /** Its end, whatever kind of. */
  ended: number;
  promptTokens: number;
  completionTokens: number;
  /** How often the server was full, and the longest it asked to stay away. */
  refusals: number;
  retryAfterSeconds: number | null;
  outcome: Outcome;
  /** Of the answer's token ids; null where the server does not tell them. */
  digest: string | null;
}

export type Outcome =
  | { kind: "finished"; reason: string }
  /** Full to the last try. */
  | { kind: "refused" }
  /** Gave no end in time. */
  | { kind: "timeout" }
  | { kind: "error"; message: string };
