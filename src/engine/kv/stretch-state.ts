import type { Stretch } from "../../chain/stretches.ts";

/** Bytes of a stretch's piece per token: keys and values of its layers, and the rows at its end. */
export function pieceBytesPerToken({ bytesPerToken, parting }: Stretch): number {
  return bytesPerToken + 4 * (parting?.ports ?? []).reduce((sum, { width }) => sum + width, 0);
}

/** Keys and values, then rows, as one. */
export function joinPiece(state: Float32Array, rows: Float32Array | null): Float32Array {
  if (rows === null) return state;
  const piece = new Float32Array(state.length + rows.length);
  piece.set(state);
  piece.set(rows, state.length);
  return piece;
}

/** The rows of a piece of so many tokens. */
export function rowsOfPiece(piece: Float32Array, { bytesPerToken }: Stretch, tokens: number): Float32Array {
  return piece.subarray((bytesPerToken / 4) * tokens);
}
