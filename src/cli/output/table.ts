import Table from "cli-table3";

export interface Column {
  head: string;
  align?: "left" | "right";
}

const BORDERLESS = {
  top: "",
  "top-mid": "",
  "top-left": "",
  "top-right": "",
  bottom: "",
  "bottom-mid": "",
  "bottom-left": "",
  "bottom-right": "",
  left: "",
  "left-mid": "",
  mid: "",
  "mid-mid": "",
  right: "",
  "right-mid": "",
  middle: "  ",
};

/** Rows under a heading, columns aligned, no lines drawn: reads well on a terminal and cuts well in a pipe. */
export function renderTable(columns: Column[], rows: (string | number)[][]): string {
  const table = new Table({
    head: columns.map((column) => column.head),
    colAligns: columns.map((column) => column.align ?? "left"),
    chars: BORDERLESS,
    style: { head: [], border: [], "padding-left": 0, "padding-right": 0 },
  });
  table.push(...rows.map((row) => row.map(String)));
  return trimLines(table.toString());
}

/** Facts about one thing, names in the left column. */
export function renderFacts(facts: [string, string | number][]): string {
  const table = new Table({
    chars: BORDERLESS,
    style: { head: [], border: [], "padding-left": 0, "padding-right": 0 },
  });
  table.push(...facts.map(([name, value]) => [name, String(value)]));
  return trimLines(table.toString());
}

function trimLines(text: string): string {
  return text
    .split("\n")
    .map((line) => line.trimEnd())
    .join("\n");
}
