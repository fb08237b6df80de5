import { expect, test } from "vitest";
import { diffLines } from "../../src/text/diff";

const told = (before: string, after: string): string[] =>
  diffLines(before, after).map(({ kind, text }) => `${{ added: "+", removed: "-", same: " ", gap: "~" }[kind]}${text}`);

test("a changed line with what is around it", () => {
  expect(told("a\nb\nc\n", "a\nB\nc\n")).toEqual([" a", "-b", "+B", " c"]);
});

test("changes far from each other have a gap between them", () => {
  const lines = Array.from({ length: 30 }, (_, at) => String(at));
  const changed = lines.map((line, at) => (at === 2 || at === 27 ? `${line}!` : line));
  const found = told(lines.join("\n"), changed.join("\n"));
  expect(found.filter((line) => line.startsWith("~"))).toHaveLength(1);
  expect(found.filter((line) => line.startsWith("+"))).toEqual(["+2!", "+27!"]);
});

test("a new file is all new, a removed one all gone", () => {
  expect(told("", "a\nb\n")).toEqual(["+a", "+b"]);
  expect(told("a\nb", "")).toEqual(["-a", "-b"]);
});

test("the end of the last line is no line", () => {
  expect(told("a", "a\nb")).toContain("+b");
  expect(told("a\n", "b")).toEqual(["-a", "+b"]);
});

test("texts that are too long to compare are shown whole", () => {
  const [before, after] = ["a\n".repeat(100_000), "b\n".repeat(100_000)];
  const found = diffLines(before, after);
  expect(found).toHaveLength(200_000);
});
