/* eslint-disable no-control-regex -- control characters are what this is about */

/** A stretch of terminal output with one look. */
export interface Span {
  readonly text: string;
  /** Names of colours and attributes, for style sheets: `ansi-red`, `ansi-bold`. */
  readonly classes: readonly string[];
}

/** Changes of colour beyond this many are ignored, so that the document stays small. */
const MAX_SPANS = 4000;
/** Control characters without a glyph except tab, and the marks that change the direction of text. */
const SPECIAL = /[\u0000-\u0008\u000a-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
/** Control sequence: parameters, intermediates and the final byte (ECMA-48 section 5.4). */
const SEQUENCE = /\[([0-?]*)[ -/]*([@-~])/y;
/** Control string: a title, a link, a device command (ECMA-48 section 5.6, and xterm's BEL as its end). */
const STRING = /\][^\u0007\u001b]*(?:\u0007|\u001b\\)|[PX^_][^\u001b]*\u001b\\/y;
/** Any other escape sequence (ECMA-35 section 13.2). */
const ESCAPE = /[ -/]*[0-Z\\^-~]/y;
const COLOURS = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"] as const;
const DECORATIONS = ["", "bold", "dim", "italic", "underline", "blink", "blink", "reverse", "hidden", "strikethrough"];

/** Whether a text contains anything that only a terminal understands. */
export function isTerminalText(text: string): boolean {
  return text.includes("\u001b") || text.includes("\r");
}

/** Terminal output as it would have ended up on the screen, more or less; the work grows with the length of the text. */
export function readTerminal(text: string): readonly Span[] {
  return new Terminal(text).read();
}

/** The same as plain text. */
export function plainTerminal(text: string): string {
  return readTerminal(text)
    .map((span) => span.text)
    .join("");
}

function match(pattern: RegExp, text: string, at: number): RegExpExecArray | null {
  pattern.lastIndex = at;
  return pattern.exec(text);
}

/** An append-only terminal: each character is read a fixed number of times. */
class Terminal {
  private readonly text: string;
  private readonly done: Span[] = [];
  /** The line that is being written, which may be written over. */
  private line: Span[] = [];
  private look = new Look();
  private at = 0;

  constructor(text: string) {
    this.text = text;
  }

  read(): readonly Span[] {
    const { text } = this;
    while (this.at < text.length) {
      SPECIAL.lastIndex = this.at;
      const found = SPECIAL.exec(text)?.index ?? text.length;
      this.write(this.at, found);
      this.at = found + 1;
      this.control(text[found]);
    }
    this.endLine();
    return this.done;
  }

  private control(character: string | undefined): void {
    if (character === "\n") {
      this.write(this.at - 1, this.at);
      this.endLine();
    } else if (character === "\r") {
      while (this.text[this.at] === "\r") this.at += 1;
      // A line that is written over shows what is written last.
      if (this.at < this.text.length && this.text[this.at] !== "\n") this.line = [];
    } else if (character === "\u001b") this.escape();
  }

  private escape(): void {
    const { text, at } = this;
    const sequence = match(SEQUENCE, text, at);
    if (sequence?.[2] === "m") this.look = this.look.after(sequence[1] ?? "");
    const whole = sequence ?? match(STRING, text, at) ?? match(ESCAPE, text, at);
    // Of half a sequence only its beginning is left out.
    this.at += whole?.[0].length ?? (text[at] === "[" ? 1 : 0);
  }

  private write(from: number, to: number): void {
    if (from < to) this.put(this.line, { text: this.text.slice(from, to), classes: this.look.classes });
  }

  private endLine(): void {
    for (const span of this.line) this.put(this.done, span);
    this.line = [];
  }

  private put(spans: Span[], span: Span): void {
    const last = spans.at(-1);
    const isFull = spans.length >= MAX_SPANS;
    if (last === undefined || !(isFull || last.classes.join() === span.classes.join())) spans.push(span);
    else spans[spans.length - 1] = { ...last, text: last.text + span.text };
  }
}

/** Colours and attributes that are in force (ECMA-48 section 8.3.117, with the bright colours of aixterm). */
class Look {
  readonly classes: readonly string[];
  private readonly front: string | undefined;
  private readonly back: string | undefined;
  private readonly decorations: readonly string[];

  constructor(front?: string, back?: string, decorations: readonly string[] = []) {
    this.front = front;
    this.back = back;
    this.decorations = decorations;
    const names = [front, back === undefined ? undefined : `${back}-bg`, ...decorations];
    this.classes = names.filter((name) => name !== undefined).map((name) => `ansi-${name}`);
  }

  /** The look after a "select graphic rendition" with these parameters. */
  after(parameters: string): Look {
    const now: Style = { front: this.front, back: this.back, decorations: new Set(this.decorations) };
    const codes = parameters.split(/[;:]/).map(Number);
    for (let at = 0; at < codes.length; at += 1) {
      const code = codes[at] ?? 0;
      if (code === 38 || code === 48) {
        // A colour of the palette, of which only the first sixteen have a name here, or one in red, green and blue.
        const isPalette = codes[at + 1] === 5;
        now[code === 38 ? "front" : "back"] = isPalette ? paletteColour(codes[at + 2] ?? 16) : undefined;
        at += isPalette ? 2 : 4;
      } else apply(now, code);
    }
    return new Look(now.front, now.back, [...now.decorations]);
  }
}

interface Style {
  front: string | undefined;
  back: string | undefined;
  decorations: Set<string>;
}

function apply(now: Style, code: number): void {
  const tens = Math.floor(code / 10);
  if (code === 0) {
    [now.front, now.back] = [undefined, undefined];
    now.decorations.clear();
  } else if (tens === 0) now.decorations.add(DECORATIONS[code] ?? "");
  else if (code === 22) for (const name of ["bold", "dim"]) now.decorations.delete(name);
  else if (tens === 2) now.decorations.delete(DECORATIONS[code - 20] ?? "");
  else if (tens === 3) now.front = COLOURS[code - 30];
  else if (tens === 4) now.back = COLOURS[code - 40];
  else if (tens === 9) now.front = paletteColour(code - 82);
  else if (tens === 10) now.back = paletteColour(code - 92);
}

function paletteColour(index: number): string | undefined {
  const name = COLOURS[index % 8];
  return name === undefined || index > 15 ? undefined : index < 8 ? name : `bright-${name}`;
}
