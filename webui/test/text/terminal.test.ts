import { expect, test } from "vitest";
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
