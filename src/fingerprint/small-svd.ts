/** A tall matrix by its columns, in float64. */
export type Columns = Float64Array[];

/**
 * Makes the columns orthonormal in place (Gram–Schmidt, each column twice, which is enough: Giraud et al. 2005; once is
 * enough to keep them apart) and gives R, column by column: columns = Q · R. A column that depends on those before it
 * becomes zeros.
 */
export function orthonormalise(columns: Columns, rounds: 1 | 2 = 2): Columns {
  const triangle: Columns = columns.map(() => new Float64Array(columns.length));
  for (const [at, column] of columns.entries()) {
    const before = Math.sqrt(dot(column, column));
    for (let round = 0; round < rounds; round++) {
      for (let earlier = 0; earlier < at; earlier++) {
        const share = dot(columns[earlier]!, column);
        triangle[at]![earlier]! += share;
        subtractMultiple(column, columns[earlier]!, share);
      }
    }
    const norm = Math.sqrt(dot(column, column));
    if (norm <= before * 1e-13) {
      column.fill(0);
      continue;
    }
    triangle[at]![at] = norm;
    for (let i = 0; i < column.length; i++) column[i]! /= norm;
  }
  return triangle;
}

export interface SingularTriples {
  /** Largest first. */
  values: Float64Array;
  /** matrix = left · diag(values) · rightᵀ; `left[i]` and `right[i]` belong to `values[i]`. */
  left: Columns;
  right: Columns;
}

/** One-sided Jacobi (Demmel and Veselić 1992: small singular values keep their relative accuracy), for small matrices. */
export function singularTriples(matrix: Columns): SingularTriples {
  const left = matrix.map((column) => column.slice());
  const right = matrix.map((_, at) => Float64Array.from(matrix, (__, row) => (row === at ? 1 : 0)));
  for (let sweep = 0, turned = true; turned && sweep < 40; sweep++) {
    turned = false;
    for (let p = 0; p < left.length - 1; p++) {
      for (let q = p + 1; q < left.length; q++) {
        if (rotatePair({ left, right }, p, q)) turned = true;
      }
    }
  }
  const values = left.map((column) => Math.sqrt(dot(column, column)));
  const order = [...values.keys()].toSorted((a, b) => values[b]! - values[a]!);
  return {
    values: Float64Array.from(order, (at) => values[at]!),
    left: order.map((at) => left[at]!.map((value) => (values[at] === 0 ? 0 : value / values[at]!))),
    right: order.map((at) => right[at]!),
  };
}

/** Turns columns p and q so that they become orthogonal; false when they are already. */
function rotatePair({ left, right }: { left: Columns; right: Columns }, p: number, q: number): boolean {
  const alpha = dot(left[p]!, left[p]!);
  const beta = dot(left[q]!, left[q]!);
  const gamma = dot(left[p]!, left[q]!);
  if (gamma === 0 || Math.abs(gamma) <= 1e-15 * Math.sqrt(alpha * beta)) return false;
  const zeta = (beta - alpha) / (2 * gamma);
  const tangent = (zeta < 0 ? -1 : 1) / (Math.abs(zeta) + Math.hypot(1, zeta));
  const cosine = 1 / Math.hypot(1, tangent);
  rotate(left[p]!, left[q]!, { cosine, sine: cosine * tangent });
  rotate(right[p]!, right[q]!, { cosine, sine: cosine * tangent });
  return true;
}

function rotate(a: Float64Array, b: Float64Array, { cosine, sine }: { cosine: number; sine: number }): void {
  for (let i = 0; i < a.length; i++) {
    const x = a[i]!;
    const y = b[i]!;
    a[i] = cosine * x - sine * y;
    b[i] = sine * x + cosine * y;
  }
}

/** Four sums side by side: one alone waits for each addition before it starts the next. */
function dot(a: Float64Array, b: Float64Array): number {
  let [sum0, sum1, sum2, sum3] = [0, 0, 0, 0];
  const fours = a.length - (a.length % 4);
  for (let i = 0; i < fours; i += 4) {
    sum0 += a[i]! * b[i]!;
    sum1 += a[i + 1]! * b[i + 1]!;
    sum2 += a[i + 2]! * b[i + 2]!;
    sum3 += a[i + 3]! * b[i + 3]!;
  }
  for (let i = fours; i < a.length; i++) sum0 += a[i]! * b[i]!;
  return sum0 + sum1 + (sum2 + sum3);
}

function subtractMultiple(target: Float64Array, column: Float64Array, factor: number): void {
  for (let i = 0; i < target.length; i++) target[i]! -= factor * column[i]!;
}
