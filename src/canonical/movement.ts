import type { GraphNode } from "../onnx/model.ts";
import { count, integers, Unliftable, type Known } from "./value.ts";

/** An operator that only moves elements: element i of the output is element `from[i]` of input `input[i]`. */
export interface Movement {
  dims: number[];
  /** null: the elements keep their order. */
  from: Int32Array | null;
  /** null: all elements come from input 0. */
  input: Uint16Array | null;
}

/**
 * The movement of each output of `node` for inputs of these dims, or null when the operator computes something.
 * `parameters(i)` gives input i as numbers (axes, shapes, starts). With `dimsOnly` no index is made.
 */
export function movements(node: GraphNode, dims: number[][], parameters: Parameters): Movement[] | null {
  return isMovement(node) ? OPERATORS[node.opType]!(node, dims, parameters) : null;
}

/** Does the operator only say which element of the input each element of the output is? */
export function isMovement({ opType, domain }: GraphNode): boolean {
  return Object.hasOwn(OPERATORS, opType) && (domain === "" || domain === "com.microsoft");
}

export interface Parameters {
  (input: number): Known | null;
}

type Operator = (node: GraphNode, dims: number[][], parameters: Parameters) => Movement[];

const OPERATORS: Record<string, Operator> = {
  Identity: (_node, [dims]) => [keep(dims!)],
  Dropout: (_node, [dims]) => [keep(dims!)],
  Flatten: (node, [dims]) => {
    const axis = positive(intAttribute(node, "axis", 1), dims!.length);
    return [keep([count(dims!.slice(0, axis)), count(dims!.slice(axis))])];
  },
  Reshape: (node, [dims], parameters) => [keep(reshape(node, dims!, integers(required(node, parameters(1)))))],
  Squeeze: (node, [dims], parameters) => {
    const axes = axesOf(node, parameters(1), dims!.length);
    return [keep(dims!.filter((dim, axis) => (axes === null ? dim !== 1 : !axes.includes(axis))))];
  },
  Unsqueeze: (node, [dims], parameters) => {
    const given = listAttribute(node, "axes") ?? integers(required(node, parameters(1)));
    const rank = dims!.length + given.length;
    const axes = given.map((axis) => positive(axis, rank));
    const rest = [...dims!];
    return [keep(Array.from({ length: rank }, (_, axis) => (axes.includes(axis) ? 1 : rest.shift()!)))];
  },
  Transpose: (node, [dims]) => {
    return [transposition(dims!, listAttribute(node, "perm") ?? dims!.map((_, axis) => dims!.length - 1 - axis))];
  },
  Expand: (node, [dims], parameters) => {
    const target = broadcastDims(dims!, integers(required(node, parameters(1))), node);
    return [broadcastTo(dims!, target)];
  },
  Tile: (node, [dims], parameters) => {
    const repeats = integers(required(node, parameters(1)));
    const out = dims!.map((dim, axis) => dim * repeats[axis]!);
    return [indexed(out, dims!, (axis, position) => position % dims![axis]!)];
  },
  Slice: (node, [dims], parameters) => [slice(node, dims!, parameters)],
  Split: (node, [dims], parameters) => split(node, dims!, parameters),
  Concat: (node, dims) => [concatenation(intAttribute(node, "axis", 0), dims)],
};

function reshape(node: GraphNode, dims: number[], target: number[]): number[] {
  const zeroIsZero = intAttribute(node, "allowzero", 0) === 1;
  const out = target.map((dim, axis) => (dim === 0 && !zeroIsZero ? dims[axis]! : dim));
  const open = out.indexOf(-1);
  if (open >= 0) out[open] = count(dims) / count(out.filter((_, axis) => axis !== open));
  if (count(out) !== count(dims) || !out.every(Number.isInteger))
    throw new Unliftable(node.name, `Reshape of [${dims.join(", ")}] to [${target.join(", ")}] does not fit`);
  return out;
}

function slice(node: GraphNode, dims: number[], parameters: Parameters): Movement {
  const list = (input: number, name: string): number[] | null => {
    const given = parameters(input);
    return given === null ? listAttribute(node, name) : integers(given);
  };
  const starts = list(1, "starts")!;
  const ends = list(2, "ends")!;
  const axes = (list(3, "axes") ?? starts.map((_, axis) => axis)).map((axis) => positive(axis, dims.length));
  const steps = list(4, "steps") ?? starts.map(() => 1);
  const from = dims.map(() => ({ start: 0, step: 1 }));
  const out = [...dims];
  axes.forEach((axis, i) => {
    const dim = dims[axis]!;
    const step = steps[i]!;
    const clamp = (value: number, low: number, high: number): number =>
      Math.min(Math.max(value < 0 ? value + dim : value, low), high);
    const start = step > 0 ? clamp(starts[i]!, 0, dim) : clamp(starts[i]!, 0, dim - 1);
    // ONNX Runtime takes the largest integer as "to the end" in either direction.
    const open = ends[i] === 2 ** 31 - 1 || ends[i]! >= 2 ** 63 - 1;
    const end = step > 0 ? clamp(ends[i]!, 0, dim) : open ? -1 : clamp(ends[i]!, -1, dim - 1);
    out[axis] = Math.max(0, Math.ceil((end - start) / step));
    from[axis] = { start, step };
  });
  const strides = stridesOf(dims);
  const offset = from.reduce((sum, { start }, axis) => sum + start * strides[axis]!, 0);
  return strided(
    out,
    strides.map((stride, axis) => stride * from[axis]!.step),
    offset,
  );
}

function split(node: GraphNode, dims: number[], parameters: Parameters): Movement[] {
  const axis = positive(intAttribute(node, "axis", 0), dims.length);
  const given = listAttribute(node, "split") ?? (parameters(1) === null ? null : integers(parameters(1)!));
  const parts = node.outputs.length;
  const each = Math.ceil(dims[axis]! / parts);
  const sizes = given ?? Array.from({ length: parts }, (_, i) => Math.min(each, dims[axis]! - i * each));
  const strides = stridesOf(dims);
  let start = 0;
  return sizes.map((size) => {
    const out = dims.map((dim, i) => (i === axis ? size : dim));
    const movement = strided(out, strides, start * strides[axis]!);
    start += size;
    return movement;
  });
}

export function concatenation(axisGiven: number, dims: number[][]): Movement {
  const first = dims[0]!;
  const axis = positive(axisGiven, first.length);
  const out = [...first];
  out[axis] = dims.reduce((sum, each) => sum + each[axis]!, 0);
  const from = new Int32Array(count(out));
  const input = new Uint16Array(from.length);
  const outer = count(first.slice(0, axis));
  let position = 0;
  for (let block = 0; block < outer; block++) {
    dims.forEach((each, which) => {
      const run = count(each.slice(axis));
      for (let i = 0; i < run; i++, position++) {
        from[position] = block * run + i;
        input[position] = which;
      }
    });
  }
  return { dims: out, from, input };
}

export function transposition(dims: number[], order: number[]): Movement {
  const strides = stridesOf(dims);
  return strided(
    order.map((axis) => dims[axis]!),
    order.map((axis) => strides[axis]!),
    0,
  );
}

export function keep(dims: number[]): Movement {
  return { dims, from: null, input: null };
}

/** Elements of a tensor of `from` dims spread over `to` dims (numpy broadcasting). */
export function broadcastTo(from: number[], to: number[]): Movement {
  if (from.length === to.length && from.every((dim, axis) => dim === to[axis])) return keep(to);
  const strides = stridesOf(from);
  const lead = to.length - from.length;
  return strided(
    to,
    to.map((_, axis) => (axis < lead || from[axis - lead] === 1 ? 0 : strides[axis - lead]!)),
    0,
  );
}

export function broadcastDims(a: readonly number[], b: readonly number[], node: GraphNode): number[] {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, axis) => {
    const left = a[axis - rank + a.length] ?? 1;
    const right = b[axis - rank + b.length] ?? 1;
    if (left !== right && left !== 1 && right !== 1) {
      throw new Unliftable(node.name, `${node.opType} of [${a.join(", ")}] and [${b.join(", ")}] does not broadcast`);
    }
    return left === 1 ? right : left;
  });
}

/** Picks `indices` along `axis`; indices may have any rank (ONNX Gather). */
export function gatherMovement(
  dims: number[],
  indexDims: number[],
  indices: ArrayLike<number>,
  axis: number,
): Movement {
  const inner = count(dims.slice(axis + 1));
  const outer = count(dims.slice(0, axis));
  const out = [...dims.slice(0, axis), ...indexDims, ...dims.slice(axis + 1)];
  const from = new Int32Array(count(out));
  let position = 0;
  for (let block = 0; block < outer; block++) {
    for (let i = 0; i < indices.length; i++) {
      const index = indices[i]! < 0 ? indices[i]! + dims[axis]! : indices[i]!;
      const start = (block * dims[axis]! + index) * inner;
      for (let j = 0; j < inner; j++) from[position++] = start + j;
    }
  }
  return { dims: out, from, input: null };
}

/** Picks whole slices by the coordinates in the last axis of `indices` (ONNX GatherND without batch dims). */
export function gatherNdMovement(dims: number[], indexDims: number[], indices: ArrayLike<number>): Movement {
  const depth = indexDims.at(-1)!;
  const inner = count(dims.slice(depth));
  const strides = stridesOf(dims);
  const from = new Int32Array((indices.length / depth) * inner);
  for (let i = 0; i * depth < indices.length; i++) {
    let start = 0;
    for (let j = 0; j < depth; j++) start += positive(indices[i * depth + j]!, dims[j]!) * strides[j]!;
    for (let j = 0; j < inner; j++) from[i * inner + j] = start + j;
  }
  return { dims: [...indexDims.slice(0, -1), ...dims.slice(depth)], from, input: null };
}

function strided(dims: number[], strides: number[], offset: number): Movement {
  const from = new Int32Array(count(dims));
  const position = dims.map(() => 0);
  let source = offset;
  for (let i = 0; i < from.length; i++) {
    from[i] = source;
    for (let axis = dims.length - 1; axis >= 0; axis--) {
      source += strides[axis]!;
      if (++position[axis]! < dims[axis]!) break;
      source -= strides[axis]! * dims[axis]!;
      position[axis] = 0;
    }
  }
  return { dims, from, input: null };
}

function indexed(dims: number[], source: number[], pick: (axis: number, position: number) => number): Movement {
  const strides = stridesOf(source);
  const outStrides = stridesOf(dims);
  const from = new Int32Array(count(dims));
  for (let i = 0; i < from.length; i++) {
    let sum = 0;
    for (let axis = 0; axis < dims.length; axis++) {
      sum += pick(axis, Math.floor(i / outStrides[axis]!) % dims[axis]!) * strides[axis]!;
    }
    from[i] = sum;
  }
  return { dims, from, input: null };
}

export function stridesOf(dims: readonly number[]): number[] {
  const strides = dims.map(() => 1);
  for (let axis = dims.length - 2; axis >= 0; axis--) strides[axis] = strides[axis + 1]! * dims[axis + 1]!;
  return strides;
}

export function positive(axis: number, rank: number): number {
  return axis < 0 ? axis + rank : axis;
}

export function intAttribute(node: GraphNode, name: string, fallback: number): number {
  const attribute = node.attributes.get(name);
  return attribute?.kind === "int" ? attribute.value : fallback;
}

export function floatAttribute(node: GraphNode, name: string, fallback: number): number {
  const attribute = node.attributes.get(name);
  return attribute?.kind === "float" ? attribute.value : fallback;
}

export function listAttribute(node: GraphNode, name: string): number[] | null {
  const attribute = node.attributes.get(name);
  return attribute?.kind === "ints" ? attribute.value : null;
}

/** Axes by attribute (before opset 13) or by input; null: not given. */
export function axesOf(node: GraphNode, input: Known | null, rank: number): number[] | null {
  const axes = listAttribute(node, "axes") ?? (input === null ? null : integers(input));
  return axes === null ? null : axes.map((axis) => positive(axis, rank));
}

function required(node: GraphNode, value: Known | null): Known {
  if (value === null) throw new Unliftable(node.name, `${node.opType} with a shape that depends on the text`);
  return value;
}
