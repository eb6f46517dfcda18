import type { GraphNode } from "../onnx/model.ts";
import {
  axesOf,
  broadcastDims,
  broadcastTo,
  gatherMovement,
  floatAttribute,
  gatherNdMovement,
  intAttribute,
  positive,
  stridesOf,
  transposition,
} from "./movement.ts";
import { count, known, lazyKnown, Unliftable, type Known } from "./value.ts";

/** ONNX operators that make or reduce numbers (shape arithmetic, masks, position tables); null: not one of them. */
export function knownOperator(node: GraphNode, inputs: (Known | null)[]): Known | null {
  const compute = OPERATORS[node.opType];
  return compute === undefined ? null : compute(node, inputs);
}

type Operator = (node: GraphNode, inputs: (Known | null)[]) => Known;

const OPERATORS: Record<string, Operator> = {
  Range: (_node, inputs) => {
    const [start, limit, delta] = inputs.map((input) => input!.read()[0]!) as [number, number, number];
    const length = Math.max(0, Math.ceil((limit - start) / delta));
    return known(
      [length],
      inputs[0]!.type,
      Float64Array.from({ length }, (_, i) => start + i * delta),
    );
  },
  Gather: (node, [data, indices]) => {
    const axis = positive(intAttribute(node, "axis", 0), data!.dims.length);
    const dims = [...data!.dims.slice(0, axis), ...indices!.dims, ...data!.dims.slice(axis + 1)];
    return lazyKnown(dims, data!.type, () =>
      moved(data!, gatherMovement(data!.dims, indices!.dims, indices!.read(), axis).from!),
    );
  },
  GatherElements: (node, [data, indices]) => {
    const axis = positive(intAttribute(node, "axis", 0), data!.dims.length);
    const strides = stridesOf(data!.dims);
    const outStrides = stridesOf(indices!.dims);
    return lazyKnown(indices!.dims, data!.type, () => {
      const source = data!.read();
      return indices!.read().map((index, i) => {
        let offset = 0;
        indices!.dims.forEach((dim, a) => {
          const position = Math.floor(i / outStrides[a]!) % dim;
          offset += strides[a]! * (a === axis ? positive(index, data!.dims[axis]!) : position);
        });
        return source[offset]!;
      });
    });
  },
  GatherND: (node, [data, indices]) => {
    if (intAttribute(node, "batch_dims", 0) !== 0) throw new Unliftable(node.name, "GatherND with batch_dims");
    const dims = [...indices!.dims.slice(0, -1), ...data!.dims.slice(indices!.dims.at(-1))];
    return lazyKnown(dims, data!.type, () =>
      moved(data!, gatherNdMovement(data!.dims, indices!.dims, indices!.read()).from!),
    );
  },
  ScatterND: (_node, [data, indices, updates]) => {
    const depth = indices!.dims.at(-1)!;
    const inner = count(data!.dims.slice(depth));
    const strides = stridesOf(data!.dims);
    return lazyKnown(data!.dims, data!.type, () => {
      const out = data!.read().slice();
      const at = indices!.read();
      for (let i = 0; i < at.length / depth; i++) {
        let offset = 0;
        for (let j = 0; j < depth; j++) offset += positive(at[i * depth + j]!, data!.dims[j]!) * strides[j]!;
        out.set(updates!.read().subarray(i * inner, (i + 1) * inner), offset);
      }
      return out;
    });
  },
  EyeLike: (node, [like]) => {
    const [rows, columns] = like!.dims as [number, number];
    const k = intAttribute(node, "k", 0);
    return lazyKnown(like!.dims, "float", () =>
      Float64Array.from({ length: rows * columns }, (_, i) => Number((i % columns) - Math.floor(i / columns) === k)),
    );
  },
  Trilu: (node, [data, diagonal]) => {
    const upper = intAttribute(node, "upper", 1) === 1;
    const k = diagonal === null || diagonal === undefined ? 0 : diagonal.read()[0]!;
    const columns = data!.dims.at(-1)!;
    const rows = data!.dims.at(-2)!;
    return lazyKnown(data!.dims, data!.type, () =>
      data!.read().map((value, i) => {
        const distance = (i % columns) - (Math.floor(i / columns) % rows);
        return (upper ? distance >= k : distance <= k) ? value : 0;
      }),
    );
  },
  CumSum: (node, [data, axisInput]) => {
    const axis = positive(axisInput!.read()[0]!, data!.dims.length);
    if (intAttribute(node, "reverse", 0) !== 0) throw new Unliftable(node.name, "CumSum in reverse");
    const exclusive = intAttribute(node, "exclusive", 0) === 1;
    const stride = stridesOf(data!.dims)[axis]!;
    return lazyKnown(data!.dims, data!.type, () => {
      const source = data!.read();
      const out = new Float64Array(source.length);
      for (let i = 0; i < out.length; i++) {
        const position = Math.floor(i / stride) % data!.dims[axis]!;
        const first = position === 0;
        const before = first ? 0 : out[i - stride]!;
        out[i] = exclusive ? (first ? 0 : before + source[i - stride]!) : before + source[i]!;
      }
      return out;
    });
  },
  NonZero: (_node, [data]) => {
    const strides = stridesOf(data!.dims);
    const found = Array.from(data!.read().entries())
      .filter(([, value]) => value !== 0)
      .map(([i]) => i);
    const out = data!.dims.flatMap((dim, axis) => found.map((i) => Math.floor(i / strides[axis]!) % dim));
    return known([data!.dims.length, found.length], "int", Float64Array.from(out));
  },
  MatMul: (node, [a, b]) => matmul(node, a!, b!),
  FusedMatMul: (node, [a, b]) => {
    const product = matmul(node, turned(node, a!, 0), turned(node, b!, 1));
    const alpha = floatAttribute(node, "alpha", 1);
    return alpha === 1
      ? product
      : lazyKnown(product.dims, "float", () => product.read().map((each) => Math.fround(each * alpha)));
  },
};

const REDUCTIONS: Record<string, (values: Float64Array) => number> = {
  ReduceSum: (values) => values.reduce((sum, value) => sum + value, 0),
  ReduceMean: (values) => values.reduce((sum, value) => sum + value, 0) / values.length,
  ReduceProd: (values) => values.reduce((product, value) => product * value, 1),
  ReduceMax: (values) => values.reduce((most, value) => Math.max(most, value), -Infinity),
  ReduceMin: (values) => values.reduce((least, value) => Math.min(least, value), Infinity),
};

for (const [name, reduction] of Object.entries(REDUCTIONS)) {
  OPERATORS[name] = (node, [data, axesInput]) => {
    const axes = axesOf(node, axesInput ?? null, data!.dims.length) ?? data!.dims.map((_, axis) => axis);
    const keepDims = intAttribute(node, "keepdims", 1) === 1;
    const dims = data!.dims.flatMap((dim, axis) => (axes.includes(axis) ? (keepDims ? [1] : []) : [dim]));
    return lazyKnown(dims, data!.type, () => reduce(data!, axes, reduction));
  };
}

function reduce(data: Known, axes: number[], reduction: (values: Float64Array) => number): Float64Array {
  const strides = stridesOf(data.dims);
  const kept = data.dims.map((_, axis) => axis).filter((axis) => !axes.includes(axis));
  const groups = new Map<number, number[]>();
  data.read().forEach((value, i) => {
    let group = 0;
    for (const axis of kept) group = group * data.dims[axis]! + (Math.floor(i / strides[axis]!) % data.dims[axis]!);
    const values = groups.get(group);
    if (values === undefined) groups.set(group, [value]);
    else values.push(value);
  });
  return Float64Array.from({ length: count(kept.map((axis) => data.dims[axis]!)) }, (_, group) =>
    reduction(Float64Array.from(groups.get(group)!)),
  );
}

/** Position × inverse frequency in old exports: float32 products, float32 sum. */
function matmul(node: GraphNode, a: Known, b: Known): Known {
  if (a.dims.length < 2 || b.dims.length < 2 || a.dims.at(-1) !== b.dims.at(-2))
    throw new Unliftable(node.name, `MatMul of [${a.dims.join(", ")}] and [${b.dims.join(", ")}]`);
  const [rows, inner] = a.dims.slice(-2) as [number, number];
  const columns = b.dims.at(-1)!;
  const lead = broadcastDims(a.dims.slice(0, -2), b.dims.slice(0, -2), node);
  const matrixOf = (operand: Known): ((n: number) => number) => {
    const { from } = broadcastTo(operand.dims.slice(0, -2), lead);
    return (n) => from?.[n] ?? n;
  };
  return lazyKnown([...lead, rows, columns], "float", () => {
    const left = a.read();
    const right = b.read();
    const batch = count(lead);
    const [leftMatrix, rightMatrix] = [matrixOf(a), matrixOf(b)];
    const out = new Float64Array(batch * rows * columns);
    for (let n = 0; n < batch; n++) {
      const leftStart = leftMatrix(n) * rows * inner;
      const rightStart = rightMatrix(n) * inner * columns;
      for (let i = 0; i < rows; i++) {
        for (let j = 0; j < columns; j++) {
          let sum = 0;
          for (let k = 0; k < inner; k++)
            sum = Math.fround(
              sum + Math.fround(left[leftStart + i * inner + k]! * right[rightStart + k * columns + j]!),
            );
          out[(n * rows + i) * columns + j] = sum;
        }
      }
    }
    return out;
  });
}

function turned(node: GraphNode, value: Known, input: 0 | 1): Known {
  const order = turnedAxes(node, input, value.dims.length);
  if (order === null) return value;
  const { dims, from } = transposition(value.dims, order);
  return lazyKnown(dims, value.type, () => moved(value, from!));
}

/** In which order com.microsoft.FusedMatMul takes an operand's axes; null: as they are. */
export function turnedAxes(node: GraphNode, input: 0 | 1, rank: number): number[] | null {
  const suffix = input === 0 ? "A" : "B";
  const axes = Array.from({ length: rank }, (_, axis) => axis);
  const batch = intAttribute(node, `transBatch${suffix}`, 0) === 1;
  const order = batch ? [...axes.slice(1, -1), 0, rank - 1] : axes;
  const matrix = intAttribute(node, `trans${suffix}`, 0) === 1;
  if (matrix && rank > 1) order.push(...order.splice(-2).toReversed());
  return batch || matrix ? order : null;
}

function moved(data: Known, from: Int32Array): Float64Array {
  const source = data.read();
  return Float64Array.from(from, (index) => source[index]!);
}
