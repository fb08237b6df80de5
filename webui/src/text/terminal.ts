/* eslint-disable no-control-regex -- control characters are what this is about */
import Anser from "anser";

/** A stretch of terminal output with one look. */
export interface Span {
  readonly text: string;
  /** Names of colours and attributes, for style sheets: `ansi-red`, `ansi-bold`. */
  readonly classes: readonly string[];
}

/** Everything that moves a cursor, sets a title or asks a terminal for something (ECMA-48); colours stay. */
const COMMANDS =
  /\u001b(?:\][^\u0007\u001b]*(?:\u0007|\u001b\\)|\[[0-9;:?<=>!]*[ -/]*(?!m)[@-~]|[PX^_][^\u001b]*\u001b\\|[ -/]*[0-Z\\^-~])/g;
/** Characters that are nothing to look at, but tab, line feed, carriage return and escape. */
const CONTROLS = /[\u0000-\u0008\u000b\u000c\u000e-\u001a\u001c-\u001f\u007f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** Whether a text contains anything that only a terminal understands. */
export function isTerminalText(text: string): boolean {
  return text.includes("\u001b") || text.includes("\r");
}

/** Terminal output as it would have ended up on the screen, more or less. */
export function readTerminal(text: string): readonly Span[] {
  const clean = text
    .replace(COMMANDS, "")
    .replace(/\r+\n/g, "\n")
    // A line that was written over shows what was written last.
    .replace(/^[^\n]*\r(?!$)/gm, "")
    .replace(/\r/g, "")
    .replace(CONTROLS, "");
  const parts = Anser.ansiToJson(clean, { use_classes: true, remove_empty: true });
  return parts.map(({ content, fg, bg, decorations }) => ({
    text: content.replaceAll("\u001b", ""),
    classes: [fg, bg && `${bg}-bg`, ...decorations.map((name) => `ansi-${name}`)].filter((name) =>
      /^ansi-[a-z-]+$/.test(name),
    ),
  }));
}

/** The same as plain text. */
export function plainTerminal(text: string): string {
  return readTerminal(text)
    .map((span) => span.text)
    .join("");
}
