import { availableParallelism } from "node:os";
import { InferenceSession, Tensor } from "onnxruntime-node";

import type { GraphNode, ValueInfo } from "../onnx/model.ts";
import { ownModel } from "../onnx/own-model.ts";
import { writeModel } from "../onnx/write-model.ts";

/** A float32 matrix, row-major. */
export interface Matrix {
  rows: number;
  columns: number;
  values: Float32Array;
}

/** Products of large matrices, by ONNX Runtime: a hundred times as fast as loops in JavaScript. Close it after use. */
export class MatrixProducts {
  readonly #plain: InferenceSession;
  readonly #transposed: InferenceSession;

  private constructor(plain: InferenceSession, transposed: InferenceSession) {
    this.#plain = plain;
    this.#transposed = transposed;
  }

  static async open(): Promise<MatrixProducts> {
    const options = {
      intraOpNumThreads: availableParallelism(),
      enableMemPattern: false,
      logSeverityLevel: 3,
      // Between products JavaScript works: threads that wait by spinning would take its time.
      extra: { session: { intra_op: { allow_spinning: "0" } } },
    } as const;
    const plain = await InferenceSession.create(productModel(false), options);
    return new MatrixProducts(plain, await InferenceSession.create(productModel(true), options));
  }

  /** a · b */
  async product(a: Matrix, b: Matrix): Promise<Matrix> {
    return await run(this.#plain, a, b);
  }

  /** aᵀ · b */
  async transposedProduct(a: Matrix, b: Matrix): Promise<Matrix> {
    return await run(this.#transposed, a, b);
  }

  async close(): Promise<void> {
    await this.#plain.release();
    await this.#transposed.release();
  }
}

async function run(session: InferenceSession, a: Matrix, b: Matrix): Promise<Matrix> {
  const tensor = ({ values, rows, columns }: Matrix) => new Tensor("float32", values, [rows, columns]);
  const { c } = await session.run({ a: tensor(a), b: tensor(b) });
  const [rows = 0, columns = 0] = c!.dims;
  return { rows, columns, values: c!.data as Float32Array };
}

/** FusedMatMul reads `a` by its columns where it lies (ONNX Runtime contrib operators). */
function productModel(transposed: boolean): Uint8Array {
  const matrix = (name: string, rows: string, columns: string): ValueInfo => ({
    name,
    dtype: "float32",
    dims: [rows, columns],
  });
  const product: GraphNode = {
    name: "product",
    opType: transposed ? "FusedMatMul" : "MatMul",
    domain: transposed ? "com.microsoft" : "",
    inputs: ["a", "b"],
    outputs: ["c"],
    attributes: transposed ? new Map([["transA", { kind: "int", value: 1 }]]) : new Map(),
  };
  const inputs = [matrix("a", "m", "n"), matrix("b", transposed ? "m" : "n", "k")];
  const outputs = [matrix("c", transposed ? "n" : "m", "k")];
  return writeModel(ownModel({ name: "product", nodes: [product], initializers: new Map(), inputs, outputs }));
}
