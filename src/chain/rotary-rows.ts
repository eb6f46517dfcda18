import type { RotarySpec } from "../blocks/block.ts";
import { inverseFrequencies } from "../canonical/rotary.ts";
import { BlockllmError } from "../support/errors.ts";

/** Makes the cos and sin rows [N, dim / 2] of one rotary specification (RoPE, arXiv 2104.09864). */
export interface RotaryRows {
  cos: Float32Array;
  sin: Float32Array;
}

export type RotaryTable = { cos: Float32Array; sin: Float32Array };

/**
 * Angles are rounded to float32 as exporters' graphs round them; cos and sin are taken in double and rounded once.
 * `table` holds the rows of a `table` specification. Errors: context_length_exceeded beyond the table's last row.
 */
export function rotaryRows(spec: RotarySpec, positions: readonly number[], table: RotaryTable | null): RotaryRows {
  return table ? fromTable(spec, positions, table) : fromFrequencies(spec, positions);
}

/** dim / 2 inverse frequencies, each step rounded to float32. */
function frequenciesOf({ frequencies, dim }: RotarySpec): Float32Array {
  if (frequencies.kind === "list") return Float32Array.from(frequencies.values);
  if (frequencies.kind === "table") throw new Error("A rotary table has no frequencies");
  return inverseFrequencies(frequencies.theta, dim);
}

const knownFrequencies = new WeakMap<RotarySpec, Float32Array>();

function fromFrequencies(spec: RotarySpec, positions: readonly number[]): RotaryRows {
  const inverse = knownFrequencies.get(spec) ?? frequenciesOf(spec);
  knownFrequencies.set(spec, inverse);
  const cos = new Float32Array(positions.length * inverse.length);
  const sin = new Float32Array(cos.length);
  let at = 0;
  for (const position of positions) {
    for (const frequency of inverse) {
      const angle = Math.fround(position * frequency);
      cos[at] = Math.cos(angle) * spec.scale;
      sin[at] = Math.sin(angle) * spec.scale;
      at++;
    }
  }
  return { cos, sin };
}

function fromTable(spec: RotarySpec, positions: readonly number[], table: RotaryTable): RotaryRows {
  const width = spec.dim / 2;
  const cos = new Float32Array(positions.length * width);
  const sin = new Float32Array(cos.length);
  positions.forEach((position, row) => {
    const from = position * width;
    if (from >= table.cos.length) {
      throw new BlockllmError(
        "context_length_exceeded",
        `Position ${position} is beyond the ${table.cos.length / width} rows of the rotary table.`,
      );
    }
    cos.set(table.cos.subarray(from, from + width), row * width);
    sin.set(table.sin.subarray(from, from + width), row * width);
  });
  return spec.scale === 1 ? { cos, sin } : { cos: cos.map((x) => x * spec.scale), sin: sin.map((x) => x * spec.scale) };
}
