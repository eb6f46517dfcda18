import { arrivalTimes, type OpenArrivals, type RunLimits } from "./arrivals.ts";
import type { QuestionMix } from "./questions.ts";
import type { PointLoad } from "./report.ts";
import type { Load } from "./run-load.ts";
import type { Scenario } from "./scenario.ts";

/** The loads of a scenario, one after the other: points of its latency curve. */
export function pointsOf({ arrivals }: Scenario): PointLoad[] {
  switch (arrivals.kind) {
    case "closed":
      return arrivals.clients.map((clients) => ({ kind: "clients", clients }));
    case "saturation":
      return arrivals.shares.map((share) => ({ kind: "share", share }));
    case "trace":
      return arrivals.speed.map((speed) => ({ kind: "trace", speed }));
    case "poisson":
    case "constant":
      return arrivals.rate.map((rate) => ({ kind: "rate", per_second: rate }));
  }
}

export function describePoint(point: PointLoad): string {
  switch (point.kind) {
    case "clients":
      return `${point.clients} clients`;
    case "rate":
      return `${point.per_second} requests/s`;
    case "share":
      return `${Math.round(point.share * 100)} % of saturation`;
    case "trace":
      return point.speed === 1 ? "trace" : `trace, ${point.speed} times as fast`;
  }
}

/** `saturation`: requests per second that a share of 1 means. */
export function loadOf(
  scenario: Scenario,
  point: PointLoad,
  { mix, saturation }: { mix: QuestionMix; saturation: number | null },
): Load {
  const { requests, seconds } = scenario;
  const limits = { requests, seconds };
  const common = { mix, timeoutSeconds: scenario.timeout_seconds, retries: scenario.retries };
  if (point.kind === "clients") return { ...common, arrivals: { kind: "closed", clients: point.clients, limits } };
  const arrivals = openArrivals(scenario, point, saturation);
  const times = arrivalTimes(arrivals, limits, mix.seed);
  return { ...common, arrivals: { kind: "open", times, seconds: secondsOf(arrivals, times, limits) } };
}

/** As many arrivals at a rate take so long; a trace lasts until its last answer. */
function secondsOf(arrivals: OpenArrivals, times: readonly number[], { requests, seconds }: RunLimits): number | null {
  if (arrivals.kind === "trace") return null;
  const isCutByTime = seconds !== null && (requests === null || times.length < requests);
  return isCutByTime ? seconds : times.length / arrivals.rate;
}

/** `clients` asking without a pause, to see what a target gets done; null where no load refers to that. */
export function saturatingLoad(scenario: Scenario, mix: QuestionMix): Load | null {
  if (scenario.arrivals.kind !== "saturation") return null;
  const { clients } = scenario.arrivals;
  const requests = Math.max(clients * ROUNDS, scenario.requests ?? 0);
  return {
    mix,
    arrivals: { kind: "closed", clients, limits: { requests, seconds: scenario.seconds } },
    timeoutSeconds: scenario.timeout_seconds,
    retries: MANY_RETRIES,
  };
}

/** Answers per client, so that neither the beginning nor the end counts for much. */
const ROUNDS = 4;
/** A short queue must not end it early. */
const MANY_RETRIES = 100;

export function warmUpLoad(scenario: Scenario, mix: QuestionMix): Load | null {
  if (scenario.warm_up === 0) return null;
  const limits = { requests: scenario.warm_up, seconds: null };
  return {
    mix: { ...mix, zipf: 0 },
    arrivals: { kind: "closed", clients: Math.min(scenario.warm_up, 8), limits },
    timeoutSeconds: scenario.timeout_seconds,
    retries: MANY_RETRIES,
  };
}

function openArrivals(
  { arrivals }: Scenario,
  point: Exclude<PointLoad, { kind: "clients" }>,
  saturation: number | null,
): OpenArrivals {
  if (point.kind === "share") return { kind: "poisson", rate: point.share * saturation! };
  if (point.kind === "rate")
    return { kind: arrivals.kind === "constant" ? "constant" : "poisson", rate: point.per_second };
  if (arrivals.kind !== "trace") throw new Error(`there is no trace in ${arrivals.kind} arrivals`);
  return { kind: "trace", times: arrivals.times, speed: point.speed };
}
