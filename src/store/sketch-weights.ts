import { streamWeight } from "../canonical/weight-bytes.ts";
import { describeWeight, type Weight } from "../canonical/weights.ts";
import { ElementStream } from "../fingerprint/element-stream.ts";
import { sketchBlock, TensorSketch } from "../fingerprint/sketch.ts";

type FinishedSketch = ReturnType<TensorSketch["finish"]>;

/** The sketches of blocks that are being stored, from the chunks of their weights as they go by: no second pass over them. */
export class WeightSketches {
  /** Weight → its places in blocks, each of which sketches it with another seed. */
  readonly #places = new Map<string, Map<number, FinishedSketch | null>>();

  /** Per block its weights, in the order of its parts. */
  constructor(blocks: readonly (readonly Weight[])[]) {
    for (const weights of blocks) {
      weights.forEach((weight, ordinal) => {
        const key = describeWeight(weight);
        this.#places.set(key, (this.#places.get(key) ?? new Map()).set(ordinal, null));
      });
    }
  }

  /** A weight's bytes in canonical form. Whoever takes them twice sketches them twice, to the same. */
  async *stream(weight: Weight): AsyncGenerator<Uint8Array> {
    const places = this.#places.get(describeWeight(weight)) ?? new Map<number, FinishedSketch | null>();
    const sketches = [...places.keys()].map((ordinal) => ({ ordinal, sketch: new TensorSketch(ordinal) }));
    const elements = new ElementStream(weight.tensor.dtype);
    for await (const chunk of streamWeight(weight)) {
      // Before it is handed on: its memory is used again for another chunk.
      for (const piece of elements.pieces(chunk)) for (const { sketch } of sketches) sketch.add(piece);
      yield chunk;
    }
    for (const { ordinal, sketch } of sketches) places.set(ordinal, sketch.finish());
  }

  /** Of a block whose weights have all gone by. */
  of(weights: readonly Weight[]): Uint32Array {
    return sketchBlock(
      weights.map((weight, ordinal) => {
        const finished = this.#places.get(describeWeight(weight))?.get(ordinal);
        if (!finished) throw new Error(`${weight.tensor.name} was not stored before its block is sketched`);
        return finished;
      }),
    );
  }
}
