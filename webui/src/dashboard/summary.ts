import { clock, shown, type Unit } from "./format";
import type { Figure } from "./panel";
import type { Line } from "./timeline";

/** A chart as a sentence, for screen readers. */
export function summary(lines: readonly { readonly figure: Figure; readonly line: Line }[], unit: Unit): string {
  if (lines.length === 0) return "No data in this period.";
  return lines.map(({ figure, line }) => described(figure.label, line, unit)).join(" ");
}

/** A few points of a chart, the newest first: the time of each, and its values. */
export function rows(times: readonly number[], lines: readonly Line[], unit: Unit, most = 12): string[][] {
  const stride = Math.max(1, Math.ceil(times.length / most));
  const found: string[][] = [];
  for (let index = times.length - 1; index >= 0; index -= stride) {
    found.push([clock(times[index] ?? 0), ...lines.map((line) => shown(line[index], unit))]);
  }
  return found;
}

function described(label: string, line: Line, unit: Unit): string {
  const values = line.filter((value) => value !== null);
  if (values.length === 0) return `${label}: no values.`;
  const least = shown(Math.min(...values), unit);
  const most = shown(Math.max(...values), unit);
  return `${label}: ${shown(line.at(-1), unit)} now, between ${least} and ${most}.`;
}
