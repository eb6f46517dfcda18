import { expect, it } from "vitest";
import { renderFacts, renderTable } from "../../../src/cli/output/table.ts";

it("aligns columns and leaves no blanks at the ends of lines", () => {
  const text = renderTable(
    [{ head: "model" }, { head: "bytes", align: "right" }],
    [
      ["support", "1.49 MB"],
      ["hr", "9 B"],
    ],
  );
  expect(text).toBe(["model      bytes", "support  1.49 MB", "hr           9 B"].join("\n"));
});

it("puts the names of facts in a column", () => {
  expect(
    renderFacts([
      ["model", "support"],
      ["layers", 6],
    ]),
  ).toBe("model   support\nlayers  6");
});

it("shows a table without rows as its heading", () => {
  expect(renderTable([{ head: "model" }], [])).toBe("model");
});
