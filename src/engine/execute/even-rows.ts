import { Tensor } from "onnxruntime-node";

type Rows = Record<string, Tensor>;

/** Tensors [1, rows] or [1, rows, width] with the last row once more where their number is odd. */
export function withEvenRows(feeds: Readonly<Rows>): Rows {
  return Object.fromEntries(
    Object.entries(feeds).map(([name, tensor]) => [name, tensor.dims[1]! % 2 === 1 ? withRowAgain(tensor) : tensor]),
  );
}

/** What was given for that row is dropped. */
export function firstRows(outputs: Readonly<Rows>, count: number): Rows {
  return Object.fromEntries(
    Object.entries(outputs).map(([name, { type, data, dims }]) => {
      const [batch, rows, ...width] = dims as number[];
      const kept = (data as Float32Array).subarray(0, (data.length / rows!) * count);
      return [name, new Tensor(type as "float32", kept, [batch!, count, ...width])];
    }),
  );
}

function withRowAgain({ type, data, dims }: Tensor): Tensor {
  const rows = data as Float32Array | BigInt64Array;
  const [batch, count, ...width] = dims as [number, number, ...number[]];
  const stride = rows.length / count;
  const longer = new (rows.constructor as new (length: number) => typeof rows)(rows.length + stride);
  longer.set(rows as never);
  longer.set(rows.subarray(rows.length - stride) as never, rows.length);
  return new Tensor(type as "float32", longer as Float32Array, [batch, count + 1, ...width]);
}
