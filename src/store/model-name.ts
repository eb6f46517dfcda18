import { BlockllmError } from "../support/errors.ts";
import { ANNOTATIONS, type Descriptor } from "./descriptor.ts";

const NAME = /^[a-z0-9]+([._-]+[a-z0-9]+)*(\/[a-z0-9]+([._-]+[a-z0-9]+)*)*$/i;
const TAG = /^[a-z0-9_][a-z0-9._-]*$/i;
const NAME_LIMIT = 200;
const TAG_LIMIT = 128;

/**
 * `name[:tag]` in its one written form: `latest` is the tag that is left out. Characters and tag length are those a
 * registry accepts (OCI distribution spec), so that every model can be pushed under its name; throws `name_invalid`.
 */
export function canonicalModelName(text: string): string {
  const colon = text.indexOf(":");
  const name = colon < 0 ? text : text.slice(0, colon);
  const tag = colon < 0 ? "latest" : text.slice(colon + 1);
  if (!NAME.test(name) || name.length > NAME_LIMIT) throw invalid(text, "name", name, NAME_LIMIT);
  if (!TAG.test(tag) || tag.length > TAG_LIMIT) throw invalid(text, "tag", tag, TAG_LIMIT);
  return tag === "latest" ? name : `${name}:${tag}`;
}

/** The model name of a descriptor in index.json; null for one without a name, or with one that blockllm would not give. */
export function modelNameOf(found: Descriptor): string | null {
  const reference = found.annotations?.[ANNOTATIONS.referenceName];
  if (reference === undefined) return null;
  try {
    return canonicalModelName(reference);
  } catch (error) {
    if (error instanceof BlockllmError && error.code === "name_invalid") return null;
    throw error;
  }
}

function invalid(text: string, part: string, value: string, limit: number): BlockllmError {
  return new BlockllmError(
    "name_invalid",
    `${JSON.stringify(text)} is no model name: its ${part} ${JSON.stringify(value)} must be 1 to ${limit} letters, digits and . _ - between them`,
    { hint: "names look like support-bot, support-bot:v2 or team/support-bot; give one with --name" },
  );
}
