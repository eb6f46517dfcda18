import type { GraphNode } from "../onnx/model.ts";
import { broadcastDims } from "./movement.ts";
import { spread } from "./known-elementwise.ts";
import { count, scalarOf, Unliftable, type Known, type Scores } from "./value.ts";

/** Below this a bias hides a key: exporters write −Infinity, the lowest float32, the lowest float16 or −10000. */
export const HIDES = -9_999;

export function scaleScores(scores: Scores, by: number): Scores {
  if (!scores.capped) {
    // −Infinity · by stays; slopes added before the scaling are scaled with it. 0 · by must not become NaN.
    const bias =
      scores.bias === null
        ? null
        : { ...scores.bias, data: scores.bias.data.map((each) => (each === 0 ? 0 : each * by)) };
    return { ...scores, scale: scores.scale * by, bias };
  }
  if (scores.bias !== null) throw new Unliftable("attention", "a softcap after the mask");
  // c·tanh(score / c): the factor must undo the division, which is in `scale` by now.
  return { ...scores, softcap: by, scale: scores.scale * by, capped: false };
}

export function tanhOfScores(scores: Scores): Scores {
  if (scores.bias !== null || scores.softcap !== null)
    throw new Unliftable("attention", "Tanh on scores after their mask");
  return { ...scores, capped: true };
}

export function addToScores(node: GraphNode, scores: Scores, mask: Known): Scores {
  const dims = scores.bias === null ? mask.dims : broadcastDims(scores.bias.dims, mask.dims, node);
  broadcastDims(scores.dims, dims, node);
  const added = spread(mask, dims).map((each) => (each <= HIDES ? -Infinity : each));
  const data =
    scores.bias === null
      ? added
      : spread({ ...mask, dims: scores.bias.dims, read: () => scores.bias!.data }, dims).map(
          (each, i) => each + added[i]!,
        );
  return { ...scores, bias: { dims, data } };
}

/** Where(condition, scores, fill) and its mirror: −Infinity where the fill stands. */
export function hideScores(
  node: GraphNode,
  scores: Scores,
  { condition, fill, hideWhere }: { condition: Known; fill: Known; hideWhere: 0 | 1 },
): Scores {
  const value = scalarOf(fill);
  if (value === null || value > HIDES)
    throw new Unliftable(node.name, "Where fills attention scores with other than a large negative number");
  const hidden = condition.read().map((each) => ((each !== 0) === (hideWhere === 1) ? -Infinity : 0));
  return addToScores(node, scores, { ...condition, type: "float", read: () => hidden });
}

/** The bias of query s on key t for a head; zero where there is none. dims are the scores'. */
export function biasAt(scores: Scores, head: number, s: number, t: number): number {
  if (scores.bias === null) return 0;
  const { dims, data } = scores.bias;
  const [rows, columns] = [dims.at(-2) ?? 1, dims.at(-1) ?? 1];
  const heads = count(dims.slice(0, -2));
  return data[((heads === 1 ? 0 : head) * rows + (rows === 1 ? 0 : s)) * columns + (columns === 1 ? 0 : t)]!;
}
