import type { LayerGranularity } from "../../chain/granularity.ts";
import type { ServingBytes } from "../../chain/serving-bytes.ts";
import { formatBytes, formatCount } from "./format.ts";

const NAMES: Record<LayerGranularity["by"], string> = { layer: "whole", module: "by module", tensor: "by tensor" };

/** Lines that say how fine layers have to be taken; none where every layer is shared whole or not at all. */
export function printGranularity(report: { granularity: LayerGranularity[]; serving: ServingBytes }): string[] {
  const lines = describeGranularity(report);
  return lines.length === 0 ? [] : ["", ...lines];
}

export function describeGranularity({
  granularity,
  serving,
}: {
  granularity: LayerGranularity[];
  serving: ServingBytes;
}): string[] {
  const groups = (["layer", "module", "tensor"] as const).flatMap((by) => {
    const layers = granularity.filter((layer) => layer.by === by);
    if (layers.length === 0) return [];
    const saved = layers.reduce((sum, { saved_bytes }) => sum + saved_bytes, 0);
    const places = listRanges(layers.map(({ layer }) => layer));
    return [{ by, text: `${NAMES[by]}: ${places}${saved > 0 ? ` (${formatBytes(saved)} less memory)` : ""}` }];
  });
  const cuts = serving.cuts.filter(({ place }) => !/ of layer \d/.test(place));
  if (groups.every(({ by }) => by === "layer") && cuts.length === 0) return [];
  const head = `layers are shared ${groups.map(({ text }) => text).join(", ")}`;
  const sessions = serving.cuts.reduce((sum, { more_sessions }) => sum + more_sessions, 0);
  return [
    ...(groups.length > 0 ? [head] : []),
    ...cuts.map(({ place, saved_bytes }) => `the ${place} by tensor (${formatBytes(saved_bytes)} less memory)`),
    ...(serving.cuts.length > 0
      ? [
          `\`serve\` cuts ${formatCount(serving.cuts.length, "part")} finer than they are stored: ${sessions} more to run`,
        ]
      : []),
  ];
}

/** 0, 1, 2, 5: "0–2, 5". */
function listRanges(layers: number[]): string {
  const ranges: [number, number][] = [];
  for (const layer of layers) {
    const last = ranges.at(-1);
    if (last?.[1] === layer - 1) last[1] = layer;
    else ranges.push([layer, layer]);
  }
  return ranges.map(([from, to]) => (from === to ? String(from) : `${from}–${to}`)).join(", ");
}
