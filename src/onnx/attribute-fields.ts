import { ATTRIBUTE, ATTRIBUTE_TYPE } from "./fields.ts";
import type { Attribute, OnnxGraph, TensorInfo, ValueKind } from "./model.ts";
import type { WireReader } from "./wire-reader.ts";

const VALUE_KINDS = new Map<number, ValueKind>();
for (const [kind, type] of Object.entries(ATTRIBUTE_TYPE)) VALUE_KINDS.set(type, kind as ValueKind);

/** What an AttributeProto said; `attribute` picks the value its type names. */
export class AttributeFields {
  name = "";
  type = 0;
  tensor: TensorInfo | null = null;
  graph: OnnxGraph | null = null;
  #reference = "";
  #float: number | null = null;
  #int: number | null = null;
  #string: string | null = null;
  readonly #floats: number[] = [];
  readonly #ints: number[] = [];
  readonly #strings: string[] = [];

  /** Every field but the tensor and the graph, which need the graph reader. */
  read(wire: WireReader, field: number): void {
    switch (field) {
      case ATTRIBUTE.name:
        this.name = wire.name("an attribute's name");
        break;
      case ATTRIBUTE.type:
        this.type = wire.int("an attribute's type");
        break;
      case ATTRIBUTE.refAttrName:
        this.#reference = wire.name("an attribute reference");
        break;
      case ATTRIBUTE.float:
        this.#float = wire.float("a float attribute");
        break;
      case ATTRIBUTE.int:
        this.#int = wire.int("an int attribute");
        break;
      case ATTRIBUTE.string:
        this.#string = wire.text("a string attribute");
        break;
      case ATTRIBUTE.floats:
        wire.floats("a floats attribute", (value) => this.#floats.push(value));
        break;
      case ATTRIBUTE.ints:
        wire.ints("an ints attribute", (value) => this.#ints.push(value));
        break;
      case ATTRIBUTE.strings:
        this.#strings.push(wire.text("a strings attribute"));
        break;
      default:
        wire.skip();
    }
  }

  isSimpleType(): boolean {
    return VALUE_KINDS.has(this.type);
  }

  /**
   * null when there is none. A scalar with its type and without its field is the default, which proto3 writers omit;
   * IR version 1 had no type, so there the field that is present decides.
   */
  attribute(): Attribute | null {
    if (this.#reference !== "") return this.#referenceAttribute();
    switch (this.type === 0 ? this.#impliedType() : this.type) {
      case ATTRIBUTE_TYPE.float:
        return { kind: "float", value: this.#float ?? 0 };
      case ATTRIBUTE_TYPE.int:
        return { kind: "int", value: this.#int ?? 0 };
      case ATTRIBUTE_TYPE.string:
        return { kind: "string", value: this.#string ?? "" };
      case ATTRIBUTE_TYPE.tensor:
        return this.tensor && { kind: "tensor", value: this.tensor };
      case ATTRIBUTE_TYPE.graph:
        return this.graph && { kind: "graph", value: this.graph };
      case ATTRIBUTE_TYPE.floats:
        return { kind: "floats", value: this.#floats };
      case ATTRIBUTE_TYPE.ints:
        return { kind: "ints", value: this.#ints };
      case ATTRIBUTE_TYPE.strings:
        return { kind: "strings", value: this.#strings };
      default:
        return null;
    }
  }

  #referenceAttribute(): Attribute | null {
    const kind = VALUE_KINDS.get(this.type);
    return kind === undefined ? null : { kind: "reference", value: this.#reference, type: kind };
  }

  #impliedType(): number {
    if (this.#float !== null) return ATTRIBUTE_TYPE.float;
    if (this.#int !== null) return ATTRIBUTE_TYPE.int;
    if (this.#string !== null) return ATTRIBUTE_TYPE.string;
    if (this.tensor) return ATTRIBUTE_TYPE.tensor;
    if (this.graph) return ATTRIBUTE_TYPE.graph;
    if (this.#floats.length > 0) return ATTRIBUTE_TYPE.floats;
    if (this.#ints.length > 0) return ATTRIBUTE_TYPE.ints;
    return this.#strings.length > 0 ? ATTRIBUTE_TYPE.strings : 0;
  }
}
