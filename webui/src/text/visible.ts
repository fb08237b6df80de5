/* eslint-disable no-misleading-character-class -- characters that combine are what this is about */

/**
 * Characters that are not seen, or that reorder those around them: the same list as `UNSEEN` in
 * src/pocket_agent/cli/chat/transcript.py, which says what they are; a test compares both.
 */
const UNSEEN =
  "\\u{ad}\\u{34f}\\u{600}-\\u{605}\\u{61c}\\u{6dd}\\u{70f}\\u{890}\\u{891}\\u{8e2}\\u{115f}\\u{1160}\\u{17b4}\\u{17b5}" +
  "\\u{180b}-\\u{180f}\\u{200b}-\\u{200f}\\u{2028}-\\u{202e}\\u{2060}-\\u{206f}\\u{2800}\\u{3164}\\u{fe00}-\\u{fe0f}" +
  "\\u{feff}\\u{ffa0}\\u{fff0}-\\u{fffb}\\u{110bd}\\u{110cd}\\u{13430}-\\u{1343f}\\u{1bca0}-\\u{1bca3}" +
  "\\u{1d173}-\\u{1d17a}\\u{e0000}-\\u{e0fff}";

/** Spaces that look like U+0020 and are not, as `SPACES` there. */
const SPACES = "\\u{a0}\\u{1680}\\u{2000}-\\u{200a}\\u{202f}\\u{205f}\\u{3000}";

/** Not marked are joiners and selectors inside an emoji or a word, and the wide space between wide letters. */
const UNSAFE = new RegExp(
  "(?<=[\\u2190-\\u2bff\\u{1f000}-\\u{1faff}#*0-9])\\ufe0f|" +
    "(?<=[\\u2600-\\u27bf\\ufe0f\\u{1f000}-\\u{1faff}])\\u200d(?=[\\u2600-\\u2bff\\u{1f000}-\\u{1faff}])|" +
    "(?<=[\\u0620-\\u0dff])[\\u200c\\u200d](?=[\\u0620-\\u0dff])|" +
    "(?<=[\\u3001-\\u30ff\\u3400-\\u9fff\\uff01-\\uff9f])\\u3000(?=[\\u3001-\\u30ff\\u3400-\\u9fff\\uff01-\\uff9f])|" +
    `([\\0-\\x08\\x0b-\\x1f\\x7f-\\x9f\\ud800-\\udfff${UNSEEN}${SPACES}])`,
  "gu",
);

/**
 * A text that a person decides on, with a mark in place of each character that is not seen or that reorders others:
 * `<U+202E>`, or the picture of a control character. Carriage returns that only end a line are dropped.
 */
export function visible(text: string): string {
  return text.replaceAll("\r\n", "\n").replace(UNSAFE, (found, unsafe?: string) => {
    if (unsafe === undefined) return found;
    const code = unsafe.codePointAt(0) ?? 0;
    if (code < 0x20) return String.fromCharCode(0x2400 + code);
    if (code === 0x7f) return "\u2421";
    if (code >= 0xd800 && code <= 0xdfff) return "\ufffd";
    if (code === 0x2028 || code === 0x2029) return "\n";
    return `<U+${code.toString(16).toUpperCase().padStart(4, "0")}>`;
  });
}

/** Whether any text in a value, names of fields included, has characters that `visible` marks. */
export function hides(value: unknown): boolean {
  if (typeof value === "string") return visible(value) !== value.replaceAll("\r\n", "\n");
  if (typeof value !== "object" || value === null) return false;
  return Object.entries(value).some(([key, part]) => hides(key) || hides(part));
}
