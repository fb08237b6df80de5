import { structuredPatch } from "diff";

/** A line of a change. */
export interface DiffLine {
  readonly kind: "added" | "removed" | "same" | "gap";
  readonly text: string;
}

const CONTEXT = 3;
/** Beyond this the comparison takes too long to wait for; both texts are shown whole then. */
const MAX_CHARACTERS = 300_000;

/** What changed from one text to the other, with some lines around it. */
export function diffLines(before: string, after: string): readonly DiffLine[] {
  if (before === "") return linesOf(after).map((text) => ({ kind: "added", text }));
  if (after === "") return linesOf(before).map((text) => ({ kind: "removed", text }));
  if (before.length + after.length > MAX_CHARACTERS) {
    return [
      ...linesOf(before).map((text) => ({ kind: "removed" as const, text })),
      ...linesOf(after).map((text) => ({ kind: "added" as const, text })),
    ];
  }
  const { hunks } = structuredPatch("", "", before, after, "", "", { context: CONTEXT });
  return hunks.flatMap((hunk, at) => {
    const lines = hunk.lines.filter((line) => !line.startsWith("\\")).map(read);
    return at === 0 ? lines : [{ kind: "gap" as const, text: "" }, ...lines];
  });
}

function read(line: string): DiffLine {
  const kind = line.startsWith("+") ? "added" : line.startsWith("-") ? "removed" : "same";
  return { kind, text: line.slice(1) };
}

function linesOf(text: string): readonly string[] {
  return (text.endsWith("\n") ? text.slice(0, -1) : text).split("\n");
}
