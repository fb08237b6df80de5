import { expect, test, vi } from "vitest";
import { isLinear } from "../work";
import { isTerminalText, plainTerminal, readTerminal } from "../../src/text/terminal";

test("colours and attributes become classes", () => {
  expect(readTerminal("a \u001b[1;31mred\u001b[0m b")).toEqual([
    { text: "a ", classes: [] },
    { text: "red", classes: ["ansi-red", "ansi-bold"] },
    { text: " b", classes: [] },
  ]);
});

test.each([
  ["\u001b]0;a title\u0007text", "text"],
  ["\u001b]8;;https://evil.example\u001b\\link\u001b]8;;\u001b\\", "link"],
  ["\u001b[2J\u001b[1;1Htext", "text"],
  ["\u001b[?25ltext\u001b[?25h", "text"],
  ["a\u0000\u0007\u0008b", "ab"],
  ["10%\r20%\r100%\ndone", "100%\ndone"],
  ["windows\r\nlines\r\n", "windows\nlines\n"],
  ["\u202egnp.exe", "gnp.exe"],
  ["\u001bPdevice\u001b\\text", "text"],
  ["half an escape \u001b[3", "half an escape 3"],
])("what only a terminal understands is left out: %j", (text, plain) => {
  expect(plainTerminal(text)).toBe(plain);
});

test("markup stays text", () => {
  expect(readTerminal("<img src=x onerror=alert(1)>\u001b[0m")).toEqual([
    { text: "<img src=x onerror=alert(1)>", classes: [] },
  ]);
});

test("plain text needs no reading", () => {
  expect([isTerminalText("a\nb\tc"), isTerminalText("\u001b[0m"), isTerminalText("a\rb")]).toEqual([false, true, true]);
});

test.each([
  "\u001b[!",
  "\u001b[",
  "\u001b]",
  "\u001bP",
  "\u001b[31ma\u001b[1mb",
  "a\r",
  "\r",
  "a\n",
  "\u001b (",
  "\u001b[1;",
])("the work grows with the length of the output: %j", (part) => {
  expect(isLinear((size) => () => readTerminal(part.repeat(size)), 400)).toBe(true);
});

test("a half sequence is read once", () => {
  const pattern = vi.spyOn(RegExp.prototype, "exec");
  expect(plainTerminal(`\u001b[${"!".repeat(28_000)}`)).toHaveLength(28_000);
  expect(pattern.mock.calls.length).toBeLessThan(10);
  pattern.mockRestore();
});

test("colours without end make few spans, and lose no text", () => {
  const spans = readTerminal("\u001b[31ma\u001b[32mb".repeat(20_000));
  expect(spans.length).toBeLessThan(5000);
  expect(spans.map(({ text }) => text).join("")).toBe("ab".repeat(20_000));
});

test.each([
  ["\u001b[38;5;9mx", ["ansi-bright-red"]],
  ["\u001b[38;5;200mx", []],
  ["\u001b[38;2;1;31;4mx", []],
  ["\u001b[1;3;4;97;44mx", ["ansi-bright-white", "ansi-blue-bg", "ansi-bold", "ansi-italic", "ansi-underline"]],
  ["\u001b[1;31m\u001b[22;39mx", []],
  ["\u001b[31m\u001b[mx", []],
  ["\u001b[31m10%\r\u001b[0mx", []],
])("the look of %j", (text, classes) => {
  expect(readTerminal(text)).toEqual([{ text: "x", classes }]);
});
