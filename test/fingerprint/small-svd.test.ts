import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { orthonormalise, singularTriples } from "../../src/fingerprint/small-svd.ts";

const columns = fc
  .record({ rows: fc.integer({ min: 1, max: 12 }), columns: fc.integer({ min: 1, max: 6 }) })
  .chain(({ rows, columns: count }) =>
    fc.array(fc.array(fc.integer({ min: -9, max: 9 }), { minLength: rows, maxLength: rows }), {
      minLength: count,
      maxLength: count,
    }),
  )
  .map((lists) => lists.map((list) => Float64Array.from(list)));

describe("orthonormalise", () => {
  it("gives Q and R whose product is the matrix", () => {
    fc.assert(
      fc.property(columns, (matrix) => {
        const orthonormal = matrix.map((column) => column.slice());
        const triangle = orthonormalise(orthonormal);
        for (const [at, column] of matrix.entries()) {
          for (let row = 0; row < column.length; row++) {
            const product = orthonormal.reduce((sum, q, k) => sum + q[row]! * triangle[at]![k]!, 0);
            expect(product).toBeCloseTo(column[row]!, 9);
          }
        }
        for (const [i, a] of orthonormal.entries()) {
          for (const b of orthonormal.slice(i + 1)) expect(dot(a, b)).toBeCloseTo(0, 9);
          expect(Math.abs(dot(a, a) - 1) < 1e-9 || dot(a, a) === 0).toBe(true);
        }
      }),
    );
  });
});

describe("singularTriples", () => {
  it("takes any matrix apart and gives it back", () => {
    fc.assert(
      fc.property(columns, (matrix) => {
        const { values, left, right } = singularTriples(matrix);
        expect([...values]).toEqual([...values].toSorted((a, b) => b - a));
        for (const [at, column] of matrix.entries()) {
          for (let row = 0; row < column.length; row++) {
            const product = [...values].reduce((sum, value, k) => sum + left[k]![row]! * value * right[k]![at]!, 0);
            expect(product).toBeCloseTo(column[row]!, 8);
          }
        }
      }),
    );
  });
});

function dot(a: Float64Array, b: Float64Array): number {
  return a.reduce((sum, value, i) => sum + value * b[i]!, 0);
}
