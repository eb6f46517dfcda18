import { RowProgram, type RowNode } from "./rows.ts";

/**
 * Adds the roundings to float16 to a program whose rows are float16 in the file and are rounded on to 8 bits before
 * products (MatMulNBits, accuracy level 4). There float32 on the way gives other tokens: a difference in the last bit
 * can move such a rounding by a whole step of 256.
 *
 * Rounds where ONNX Runtime's CPU provider does. Its operators with a float16 kernel take and give float16; between
 * them, activations, sums and scales are computed in float32; SkipLayerNormalization normalises its sum unrounded.
 * Programs of other precisions are returned as they are.
 */
export function roundHalves(
  program: RowProgram,
  outputs: number[],
): { program: RowProgram; outputs: Map<number, number> } {
  if (!program.nodes.some(isHalfProductOf8Bits)) return { program, outputs: new Map(outputs.map((id) => [id, id])) };
  const result = new RowProgram();
  const users = usersOf(program);
  const isolated = program.nodes.map((_, id) => isIsolated(program, users, id));
  const sums = new Set(program.nodes.filter(takesSum).map(({ inputs }) => inputs[0]!));
  const made: number[] = [];
  const kernel = (id: number): boolean => hasKernel(program.node(id)) && !isolated[id]!;
  const rounded = (id: number): number => half(result, made[id]!);
  program.nodes.forEach((node, id) => {
    const inputs = node.inputs.map((input) => {
      if (takesSum(node)) return made[input]!;
      const rounds = kernel(input) || sums.has(input) || kernel(id) || sums.has(id);
      return rounds && isNumbers(program.node(input)) ? rounded(input) : made[input]!;
    });
    made.push(result.add({ ...node, inputs }));
  });
  return {
    program: result,
    outputs: new Map(outputs.map((id) => [id, program.node(id).op === "core" ? made[id]! : rounded(id)])),
  };
}

function half(program: RowProgram, id: number): number {
  const node = program.node(id);
  if (isRounding(node)) return id;
  return program.add({ op: "unary", inputs: [id], width: node.width, attributes: { function: "Half" }, weights: {} });
}

/** What a rounding to float16 rounds; any other node itself. */
export function beforeRounding(program: RowProgram, id: number): number {
  const node = program.node(id);
  return isRounding(node) ? node.inputs[0]! : id;
}

export function isRounding({ op, attributes }: RowNode): boolean {
  return op === "unary" && attributes.function === "Half";
}

function isHalfProductOf8Bits(node: RowNode): boolean {
  return node.op === "linear" && node.attributes.accuracyLevel === 4 && isHalf(node, "scales");
}

function isHalf({ weights }: RowNode, name: string): boolean {
  return weights[name]?.tensor.dtype === "float16";
}

/** Whether the CPU provider has the operator of this node in float16; a norm with float32 weights was cast to float32. */
function hasKernel(node: RowNode): boolean {
  switch (node.op) {
    case "linear":
      return node.attributes.bits !== undefined && isHalf(node, "scales");
    case "norm":
      return isHalf(node, "weight");
    case "embed":
      return isHalf(node, "scales");
    case "rotary":
    case "core":
    case "experts":
      return true;
    default:
      return false;
  }
}

/** A norm whose operator adds up the row itself. */
function takesSum(node: RowNode): boolean {
  return node.op === "norm" && node.attributes.addsUp === true && hasKernel(node);
}

/** Token ids and positions are no float16. */
function isNumbers({ op }: RowNode): boolean {
  return op !== "ids";
}

const WITHOUT_KERNEL = new Set<RowNode["op"]>(["unary", "scalar", "vector", "binary"]);

/** ONNX Runtime computes a lone product among operators without a float16 kernel in float32 too. */
function isIsolated(program: RowProgram, users: Map<number, number[]>, id: number): boolean {
  const node = program.node(id);
  if (node.op !== "linear") return false;
  const neighbours = [...node.inputs, ...(users.get(id) ?? [])].map((each) => program.node(each));
  return users.has(id) && neighbours.every((each) => WITHOUT_KERNEL.has(each.op)) && !feedsSum(program, users, id);
}

function feedsSum(program: RowProgram, users: Map<number, number[]>, id: number): boolean {
  return (users.get(id) ?? []).some((user) =>
    (users.get(user) ?? []).some((each) => program.node(each).attributes.addsUp === true),
  );
}

function usersOf({ nodes }: RowProgram): Map<number, number[]> {
  const users = new Map<number, number[]>();
  nodes.forEach(({ inputs }, id) => inputs.forEach((input) => users.set(input, [...(users.get(input) ?? []), id])));
  return users;
}
