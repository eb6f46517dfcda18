import { add, int, integers, reshape, scalar, type Emission, type Emitter } from "./emitter.ts";

/** A router's operators on rows [1, N, width]; groups are an axis of their own while they last. */
export function emitSoftmax(emission: Emission): string {
  return inGroups(emission, (x, output) =>
    add(emission.emitter, { opType: "Softmax", inputs: [x], output, attributes: { axis: int(-1) } }),
  );
}

export function emitSum(emission: Emission): string {
  const { emitter, name } = emission;
  const axis = integers(emitter, `${name}.axis`, [-1]);
  return inGroups(emission, (x, output) =>
    add(emitter, { opType: "ReduceSum", inputs: [x, axis], output, attributes: { keepdims: int(1) } }),
  );
}

/** int64 columns, within each group. */
export function emitTop(emission: Emission): string {
  const { emitter, node, name } = emission;
  const count = integers(emitter, `${name}.count`, [node.attributes.count!]);
  return inGroups(emission, (x, output) => {
    const outputs = [`${output}.values`, output];
    const attributes = new Map([["axis", int(-1)]]);
    emitter.nodes.push({ name: output, opType: "TopK", domain: "", inputs: [x, count], outputs, attributes });
    return output;
  });
}

export function emitPick(emission: Emission): string {
  const { emitter, inputs, widths, name } = emission;
  const at = grouped(emission, inputs[1]!, { width: widths[1]!, output: `${name}.at` });
  return inGroups(emission, (x, output) =>
    add(emitter, { opType: "GatherElements", inputs: [x, at], output, attributes: { axis: int(-1) } }),
  );
}

export function emitSpread(emission: Emission): string {
  const { emitter, node, inputs, widths, name, output } = emission;
  const groups = node.attributes.groups!;
  const at = inputs.at(-1)!;
  const slots = widths.at(-1)!;
  const indices = grouped(emission, at, { width: slots, output: `${name}.at` });
  const tokens = add(emitter, { opType: "Shape", inputs: [at], output: `${name}.tokens`, attributes: { end: int(2) } });
  const like = (label: string, columns: number, value: number): string => {
    const dims = integers(emitter, `${name}.${label}.dims`, groups === 1 ? [columns] : [groups, columns]);
    const shape = add(emitter, {
      opType: "Concat",
      inputs: [tokens, dims],
      output: `${name}.${label}.shape`,
      attributes: { axis: int(0) },
    });
    return filled(emitter, { shape, value, output: `${name}.${label}` });
  };
  const zeros = like("zeros", node.width / groups, 0);
  const values =
    node.attributes.value === undefined
      ? grouped(emission, inputs[0]!, { width: slots, output: `${name}.values` })
      : like("values", slots / groups, node.attributes.value);
  const spread = add(emitter, {
    opType: "ScatterElements",
    inputs: [zeros, indices, values],
    output: groups === 1 ? output : `${name}.spread`,
    attributes: { axis: int(-1) },
  });
  return groups === 1 ? spread : reshape(emitter, spread, { shape: [0, 0, node.width], output });
}

export function emitOneHot({ emitter, node, inputs, name, output }: Emission): string {
  const depth = integers(emitter, `${name}.depth`, [node.attributes.count!]);
  const values = `${name}.values`;
  const bytes = new Uint8Array(Float32Array.of(0, 1).buffer);
  emitter.constants.set(values, { name: values, dtype: "float32", dims: [2], data: { kind: "bytes", bytes } });
  const onehot = add(emitter, { opType: "OneHot", inputs: [inputs[0]!, depth, values], output: `${name}.each` });
  return reshape(emitter, onehot, { shape: [0, 0, node.width], output });
}

export function emitNot({ emitter, inputs, name, output }: Emission): string {
  const cast = (from: string, to: number, at: string): string =>
    add(emitter, { opType: "Cast", inputs: [from], output: at, attributes: { to: int(to) } });
  const negated = add(emitter, {
    opType: "Not",
    inputs: [cast(inputs[0]!, BOOL, `${name}.holds`)],
    output: `${name}.not`,
  });
  return cast(negated, FLOAT, output);
}

export function emitFill({ emitter, node, inputs, name, output }: Emission): string {
  const [condition, x] = inputs as [string, string];
  const holds = add(emitter, {
    opType: "Cast",
    inputs: [condition],
    output: `${name}.holds`,
    attributes: { to: int(BOOL) },
  });
  const value = scalar(emitter, name, node.attributes.value!);
  const operands = node.attributes.function === "Where" ? [holds, value, x] : [holds, x, value];
  return add(emitter, { opType: "Where", inputs: operands, output });
}

const FLOAT = 1;
const BOOL = 9;

/** float32 `value` repeated to the shape named. */
export function filled(
  emitter: Emitter,
  { shape, value, output }: { shape: string; value: number; output: string },
): string {
  const bytes = new Uint8Array(Float32Array.of(value).buffer);
  const tensor = { name: "", dtype: "float32" as const, dims: [1], data: { kind: "bytes" as const, bytes } };
  return add(emitter, {
    opType: "ConstantOfShape",
    inputs: [shape],
    output,
    attributes: { value: { kind: "tensor", value: tensor } },
  });
}

function inGroups(emission: Emission, compute: (x: string, output: string) => string): string {
  const { emitter, node, inputs, widths, name, output } = emission;
  if (node.attributes.groups === 1) return compute(inputs[0]!, output);
  const x = grouped(emission, inputs[0]!, { width: widths[0]!, output: `${name}.groups` });
  return reshape(emitter, compute(x, `${name}.grouped`), { shape: [0, 0, node.width], output });
}

function grouped(
  { emitter, node }: Emission,
  input: string,
  { width, output }: { width: number; output: string },
): string {
  const groups = node.attributes.groups!;
  return groups === 1 ? input : reshape(emitter, input, { shape: [0, 0, groups, width / groups], output });
}
