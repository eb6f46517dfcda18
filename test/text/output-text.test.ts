import { expect, test } from "vitest";
import { OutputText } from "../../src/text/output-text.ts";
import { deskText } from "./sample-tokenizers.ts";

const { tokenizer } = deskText();

test("a stop string that spans tokens is cut out and nothing follows it", () => {
  const output = new OutputText(tokenizer, ["it ."]);
  let text = "";
  for (const token of tokenizer.encode("eva holds it . and more", { plain: true })) text += output.push(token).text;
  expect(text + output.finish()).toBe("eva holds ");
  expect(output.stopped).toBe(true);
});

test("what each token adds is told before any cut", () => {
  const output = new OutputText(tokenizer, ["zzz"]);
  const tokens = tokenizer.encode("eva holds z", { plain: true });
  const decoded = tokens.map((token) => output.push(token).decoded);
  expect(decoded.join("")).toBe("eva holds z");
  expect(output.finish()).toBe("z");
});

test("half a character at the end is given out as one replacement character", () => {
  const output = new OutputText(tokenizer, []);
  const [first] = tokenizer.encode("🦆", { plain: true });
  expect(output.push(first!)).toEqual({ decoded: "", text: "" });
  expect(output.finish()).toBe("\uFFFD");
});
