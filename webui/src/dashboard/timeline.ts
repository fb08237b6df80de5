import type { ServerHistoryData } from "../wire/generated";

/** A series over time; null where there is no value. */
export type Line = readonly (number | null)[];

/** The series of a period, each as long as `times` (milliseconds since the epoch). */
export interface Timeline {
  /** Names the run of the server. */
  readonly began: string;
  /** Seconds between two points. */
  readonly step: number;
  readonly times: readonly number[];
  readonly lines: Readonly<Record<string, Line>>;
}

/** The reply to `server_history`. */
export function begin({ began, step, times, series }: ServerHistoryData): Timeline {
  return { began, step, times, lines: series };
}

/**
 * Adds new points, and drops those older than `rangeMs`.
 *
 * A server that was started again, or another step, has a history of its own: it replaces what there was.
 */
export function extend(timeline: Timeline, more: ServerHistoryData, rangeMs: number): Timeline {
  if (more.began !== timeline.began || more.step !== timeline.step) return begin(more);
  const last = timeline.times.at(-1) ?? -Infinity;
  const fresh = more.times.findIndex((time) => time > last);
  if (fresh < 0) return timeline;
  const times = [...timeline.times, ...more.times.slice(fresh)];
  const newest = times.at(-1) ?? 0;
  const oldest = times.findIndex((time) => time > newest - rangeMs);
  const names = new Set([...Object.keys(timeline.lines), ...Object.keys(more.series)]);
  const lines: Record<string, Line> = {};
  for (const name of names) {
    const before = timeline.lines[name] ?? zeros(timeline.times.length);
    const after = more.series[name] ?? zeros(more.times.length);
    lines[name] = [...before, ...after.slice(fresh)].slice(oldest);
  }
  return { ...timeline, times: times.slice(oldest), lines };
}

/** What a chart draws: times in seconds, and a gap where the server was silent for longer than its step. */
export function withGaps({ times, step }: Timeline, lines: readonly Line[]): [number[], ...(number | null)[][]] {
  const seconds: number[] = [];
  const values: (number | null)[][] = lines.map(() => []);
  let before = times[0] ?? 0;
  times.forEach((time, index) => {
    if (time - before > step * 2500) {
      seconds.push((before + time) / 2000);
      for (const line of values) line.push(null);
    }
    before = time;
    seconds.push(time / 1000);
    values.forEach((line, which) => line.push(lines[which]?.[index] ?? null));
  });
  return [seconds, ...values];
}

/** The newest value of a line that is one. */
export function latest(line: Line | undefined): number | null {
  return line?.at(-1) ?? null;
}

function zeros(count: number): Line {
  return new Array<number>(count).fill(0);
}
