import { expect, test } from "vitest";
import { isLinear } from "../work";
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

test("that only the end of the last line changed is seen", () => {
  expect(told("a\nb\n", "a\nb")).toEqual([" a", "-b⏎", "+b"]);
});

test("both texts are in their change", () => {
  let seed = 1;
  const random = (below: number): number => (seed = (seed * 48_271) % 2_147_483_647) % below;
  const text = (edge: string): string[] => [
    edge,
    ...Array.from({ length: random(60) }, () => String(random(12))),
    edge,
  ];
  for (let round = 0; round < 400; round += 1) {
    const [before, after] = [text("x"), text("y")];
    const found = diffLines(before.join("\n"), after.join("\n"));
    if (found.some(({ kind }) => kind === "gap")) continue;
    expect(found.filter(({ kind }) => kind !== "added").map((line) => line.text)).toEqual(before);
    expect(found.filter(({ kind }) => kind !== "removed").map((line) => line.text)).toEqual(after);
  }
});

test("a change beyond the bound is found around the lines that occur once", () => {
  const part = (name: string): string[] => Array.from({ length: 400 }, (_, at) => `${name}${at}`);
  const found = told([...part("a"), "kept", ...part("b")].join("\n"), [...part("c"), "kept", ...part("d")].join("\n"));
  expect(found.filter((line) => line.startsWith(" "))).toEqual([" kept"]);
  expect(found).toHaveLength(1601);
});

const lines = (size: number, line: (at: number) => string): string =>
  Array.from({ length: size }, (_, at) => line(at)).join("\n");

test.each<[string, (at: number) => string, (at: number) => string]>([
  ["nothing in common", (at) => `a${at}`, (at) => `b${at}`],
  ["every other line in common", (at) => `a${at}`, (at) => (at % 2 ? `a${at}` : `b${at}`)],
  ["few different lines", (at) => String(at % 3), (at) => String((at * at) % 5)],
  ["the order reversed", (at) => `a${at}`, (at) => `a${9999 - at}`],
])("the work grows with the length of the texts: %s", (_, before, after) => {
  const make = (size: number) => (): unknown => diffLines(lines(size, before), lines(size, after));
  expect(isLinear(make, 500)).toBe(true);
});
