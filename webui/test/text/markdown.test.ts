// @vitest-environment happy-dom
import { expect, test } from "vitest";
import { isLinear } from "../work";
import { isCheap, renderMarkdown, settle } from "../../src/text/markdown";

const whole = (text: string): string => {
  const { settled, rest } = settle(text);
  return [...settled, rest].join("|");
};

test("paragraphs settle when the next one begins", () => {
  expect(settle("One\n\nTwo\n\nThr")).toEqual({ settled: ["One\n", "Two\n"], rest: "Thr" });
  expect(settle("One")).toEqual({ settled: [], rest: "One" });
  expect(settle("One\n\n")).toEqual({ settled: [], rest: "One\n\n" });
});

test("an empty line in a block of code does not divide it", () => {
  const code = "```py\na\n\nb\n```\n";
  expect(settle(`${code}\nAfter`)).toEqual({ settled: [code], rest: "After" });
  expect(settle("````\n```\n\nx\n```\n\ny").settled).toEqual([]);
});

test("lists, tables and what is indented stay with what is before them", () => {
  for (const text of ["- a\n\n- b", "1. a\n\n2. b", "- a\n\n  more", "| a |\n\n| b |"]) {
    expect(settle(text).settled).toEqual([]);
  }
});

test("nothing is lost", () => {
  const text = "# A\n\ntext\n\n```\ncode\n\n```\n\n- x\n- y\n\nend\n\n\n\nmore";
  expect(whole(text).replaceAll("|", "").replace(/\s/g, "")).toBe(text.replace(/\s/g, ""));
});

test.each([
  "_a __b ",
  "*a **b ",
  "~~a ~b ",
  "[a](",
  "www.a(",
  "http://a.",
  "a@b.",
  "`a ``",
  "<a ",
  "> ",
  "- ",
  "- a\n",
  "\n\n",
])("the work grows with the length of the text, however it is written: %j", (part) => {
  const whole = (size: number): string => part.repeat(Math.ceil(size / part.length));
  const make = (size: number) => (): unknown => renderMarkdown(whole(size));
  expect(isLinear(make, 500)).toBe(true);
});

test("what is too much work, or too deep, is shown as it is", () => {
  for (const text of ["_a __b ".repeat(2500), `${">".repeat(5000)}a`, "- ".repeat(2000)]) {
    expect(renderMarkdown(text).textContent).toBe(text);
  }
});

test("long texts of people are markdown", () => {
  const paragraph = "A **word** in `code` and _another_, a [link](https://x.example) and a_snake_case. ".repeat(8);
  const table = `| a | b |\n|---|---|\n${"| `x` | **y** |\n".repeat(2000)}`;
  const code = `\`\`\`\n${"a_b * c[d] < e\n".repeat(2000)}\`\`\`\n`;
  for (const text of [`${paragraph}\n\n`.repeat(150), table, code, `- ${paragraph}\n`.repeat(150)]) {
    expect(isCheap(text)).toBe(true);
  }
});
