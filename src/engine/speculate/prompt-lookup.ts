/** So many equal tokens before it make an earlier place worth going on from; the longer match wins. */
const LONG_MATCH = 3;
const SHORT_MATCH = 2;

/**
 * What followed the last tokens where they stood before, up to `count` tokens; where that place reaches the end of the
 * list, the draft goes on from itself, so that a loop gives full drafts. Empty where the last tokens are new.
 * (Prompt lookup decoding; the copy is LZ77's.)
 */
export function lookUpDraft(tokens: readonly number[], count: number): number[] {
  const end = earlierEnd(tokens);
  if (end === null) return [];
  const draft: number[] = [];
  for (let at = end; draft.length < count; at++) draft.push(tokens[at] ?? draft[at - tokens.length]!);
  return draft;
}

/** The latest place before the end whose tokens before it are those before the end. */
function earlierEnd(tokens: readonly number[]): number | null {
  let short: number | null = null;
  for (let end = tokens.length - 1; end >= SHORT_MATCH; end--) {
    const length = matchLength(tokens, end);
    if (length === LONG_MATCH) return end;
    if (length === SHORT_MATCH) short ??= end;
  }
  return short;
}

function matchLength(tokens: readonly number[], end: number): number {
  const limit = Math.min(LONG_MATCH, end);
  let length = 0;
  while (length < limit && tokens[end - 1 - length] === tokens[tokens.length - 1 - length]) length++;
  return length;
}
