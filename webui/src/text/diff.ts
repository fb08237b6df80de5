/** A line of a change. */
export interface DiffLine {
  readonly kind: "added" | "removed" | "same" | "gap";
  readonly text: string;
}

/** Lines around a change that are shown with it. */
const CONTEXT = 3;
/** The most lines that the shortest change of a stretch may add and remove together; a longer one is not searched for. */
const MAX_EDITS = 200;
/** The bound of lines times edits in the search for the shortest change. */
const MAX_STEPS = 4_000_000;
/** How often a stretch is divided at lines that occur once in both texts. */
const MAX_DEPTH = 4;

/**
 * What changed from one text to the other, with some lines around it.
 *
 * The work is bounded by the number of lines times a constant: where two stretches differ more than MAX_EDITS and have
 * no line in common that occurs once in each, one is shown as removed and the other as added.
 */
export function diffLines(before: string, after: string): readonly DiffLine[] {
  const [old, now] = [linesOf(before), linesOf(after)];
  // That only the end of the last line changed is seen by a mark.
  if (before.endsWith("\n") !== after.endsWith("\n") && old.length > 0 && old.at(-1) === now.at(-1)) {
    (before.endsWith("\n") ? old : now).push(`${(before.endsWith("\n") ? old : now).pop() ?? ""}⏎`);
  }
  const numbers = new Map<string, number>();
  const number = (line: string): number => {
    const known = numbers.get(line) ?? numbers.size;
    numbers.set(line, known);
    return known;
  };
  const [a, b] = [old.map(number), now.map(number)];
  const kept: Pair[] = [];
  compare(a, b, { from: 0, to: a.length, at: 0, end: b.length }, kept, MAX_DEPTH);
  return hunks(old, now, kept);
}

/** A line that is in both texts: its index in each. */
type Pair = readonly [number, number];

/** The lines `from` up to `to` of the first text, and `at` up to `end` of the second. */
interface Stretch {
  readonly from: number;
  readonly to: number;
  readonly at: number;
  readonly end: number;
}

/** Adds the lines that both have in a stretch to `kept`, in order. */
function compare(a: readonly number[], b: readonly number[], stretch: Stretch, kept: Pair[], depth: number): void {
  let { from, to, at, end } = stretch;
  while (from < to && at < end && a[from] === b[at]) kept.push([from++, at++]);
  const tail: Pair[] = [];
  while (from < to && at < end && a[to - 1] === b[end - 1]) tail.push([--to, --end]);
  if (from < to && at < end) {
    const middle = { from, to, at, end };
    const found = shortest(a, b, middle);
    if (found !== null) for (const pair of found) kept.push(pair);
    else if (depth > 0) divide(a, b, middle, kept, depth);
  }
  for (const pair of tail.reverse()) kept.push(pair);
}

/** The lines that are kept by the change with the fewest edits, by Myers' greedy algorithm (1986); null beyond the bound. */
function shortest(a: readonly number[], b: readonly number[], { from, to, at, end }: Stretch): Pair[] | null {
  const [width, height] = [to - from, end - at];
  const lines = width + height;
  const most = Math.min(MAX_EDITS, lines, Math.ceil(MAX_STEPS / lines));
  const reached = new Int32Array(2 * most + 3);
  const trace: Int32Array[] = [];
  for (let edits = 0; edits <= most; edits += 1) {
    for (let k = -edits; k <= edits; k += 2) {
      const [left, right] = [reached[most + k] ?? 0, reached[most + k + 2] ?? 0];
      let x = k === -edits || (k !== edits && left < right) ? right : left + 1;
      while (x < width && x - k < height && a[from + x] === b[at + x - k]) x += 1;
      reached[most + k + 1] = x;
      if (x >= width && x - k >= height) return walk(trace, width, height).map(([i, j]) => [from + i, at + j]);
    }
    trace.push(reached.slice(most + 1 - edits, most + 2 + edits));
  }
  return null;
}

/** The way back through the steps of `shortest`, as the pairs on its diagonals. */
function walk(trace: readonly Int32Array[], width: number, height: number): Pair[] {
  const pairs: Pair[] = [];
  let [x, y] = [width, height];
  for (let edits = trace.length; edits > 0; edits -= 1) {
    const row = trace[edits - 1] ?? new Int32Array();
    const value = (k: number): number => row[k + edits - 1] ?? 0;
    const k = x - y;
    const isDown = k === -edits || (k !== edits && value(k - 1) < value(k + 1));
    const before = isDown ? k + 1 : k - 1;
    const start = value(before) + (isDown ? 0 : 1);
    while (x > start) pairs.push([--x, --y]);
    x = value(before);
    y = x - before;
  }
  while (x > 0) pairs.push([--x, --y]);
  return pairs.reverse();
}

/** Compares what lies between the lines that occur once in both texts, in the longest order that these have in common. */
function divide(a: readonly number[], b: readonly number[], stretch: Stretch, kept: Pair[], depth: number): void {
  const { from, to, at, end } = stretch;
  const places = new Map<number, { a: number; b: number }>();
  for (let i = from; i < to; i += 1) {
    const line = a[i] ?? NONE;
    places.set(line, { a: places.has(line) ? TWICE : i, b: NONE });
  }
  for (let j = at; j < end; j += 1) {
    const place = places.get(b[j] ?? NONE);
    if (place !== undefined) place.b = place.b === NONE ? j : TWICE;
  }
  const once = [...places.values()].filter((place) => place.a >= 0 && place.b >= 0);
  const anchors = ascending(once.map((place) => [place.a, place.b]));
  let [i, j] = [from, at];
  for (const anchor of anchors) {
    compare(a, b, { from: i, to: anchor[0], at: j, end: anchor[1] }, kept, depth - 1);
    kept.push(anchor);
    [i, j] = [anchor[0] + 1, anchor[1] + 1];
  }
  if (anchors.length > 0) compare(a, b, { from: i, to, at: j, end }, kept, depth - 1);
}

const NONE = -1;
const TWICE = -2;

/** A run of lines, from its last one. */
interface Run {
  readonly pair: Pair;
  readonly before: Run | undefined;
}

/** The longest run of pairs that ascends in the second text, too (patience sorting). */
function ascending(pairs: readonly Pair[]): readonly Pair[] {
  const tops: Run[] = [];
  for (const pair of pairs) {
    let [low, high] = [0, tops.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((tops[middle]?.pair[1] ?? 0) < pair[1]) low = middle + 1;
      else high = middle;
    }
    tops[low] = { pair, before: tops[low - 1] };
  }
  const found: Pair[] = [];
  for (let run = tops.at(-1); run !== undefined; run = run.before) found.push(run.pair);
  return found.reverse();
}

/** The changed lines, each with those around it, and a gap between changes that lie apart. */
function hunks(old: readonly string[], now: readonly string[], kept: readonly Pair[]): readonly DiffLine[] {
  const lines: DiffLine[] = [];
  let [i, j] = [0, 0];
  let same: string[] = [];
  const change = (kind: "added" | "removed", text: string): void => {
    const isFirst = lines.length === 0;
    if (same.length > (isFirst ? CONTEXT : 2 * CONTEXT)) {
      if (!isFirst) {
        for (const line of same.slice(0, CONTEXT)) lines.push({ kind: "same", text: line });
        lines.push({ kind: "gap", text: "" });
      }
      same = same.slice(-CONTEXT);
    }
    for (const line of same) lines.push({ kind: "same", text: line });
    same = [];
    lines.push({ kind, text });
  };
  for (const [a, b] of [...kept, [old.length, now.length] as const]) {
    while (i < a) change("removed", old[i++] ?? "");
    while (j < b) change("added", now[j++] ?? "");
    if (a < old.length) same.push(old[a] ?? "");
    [i, j] = [a + 1, b + 1];
  }
  if (lines.length > 0) for (const line of same.slice(0, CONTEXT)) lines.push({ kind: "same", text: line });
  return lines;
}

function linesOf(text: string): string[] {
  return text === "" ? [] : (text.endsWith("\n") ? text.slice(0, -1) : text).split("\n");
}
