import { expect, test } from "vitest";
import { settle } from "../../src/text/markdown";

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
