/** The value of a command as the one document `--json` puts on stdout. */
export function renderJson(value: unknown): string {
  return JSON.stringify(value, null, 2);
}
