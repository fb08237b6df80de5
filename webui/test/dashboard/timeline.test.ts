import { describe, expect, it } from "vitest";
import { begin, extend, latest, withGaps } from "../../src/dashboard/timeline";
import type { ServerHistoryData } from "../../src/wire/generated";

const MINUTE = 60_000;

function history(times: number[], series: ServerHistoryData["series"], began = "a", step = 10): ServerHistoryData {
  return { began, step, times, series };
}

describe("a timeline", () => {
  const before = begin(history([10_000, 20_000, 30_000], { connections: [1, 2, 3] }));

  it("takes in what came since, once", () => {
    const more = history([20_000, 30_000, 40_000], { connections: [8, 9, 4] });
    const after = extend(before, more, MINUTE);
    expect(after.times).toEqual([10_000, 20_000, 30_000, 40_000]);
    expect(after.lines["connections"]).toEqual([1, 2, 3, 4]);
    expect(extend(after, more, MINUTE)).toBe(after);
  });

  it("lets go of what is older than its range", () => {
    const after = extend(before, history([40_000], { connections: [4] }), 20_000);
    expect(after.times).toEqual([30_000, 40_000]);
    expect(after.lines["connections"]).toEqual([3, 4]);
  });

  it("fills a line with zeros that comes or goes", () => {
    const after = extend(before, history([40_000], { connections: [4], "errors.X": [5] }), MINUTE);
    expect(after.lines["errors.X"]).toEqual([0, 0, 0, 5]);
    const later = extend(after, history([50_000], { connections: [5] }), MINUTE);
    expect(later.lines["errors.X"]).toEqual([0, 0, 0, 5, 0]);
  });

  it("begins anew with another run of the server, or another step", () => {
    const restarted = history([40_000], { connections: [0] }, "b");
    expect(extend(before, restarted, MINUTE)).toEqual(begin(restarted));
    const coarser = history([40_000], { connections: [4] }, "a", 60);
    expect(extend(before, coarser, MINUTE)).toEqual(begin(coarser));
  });

  it("has a gap where the server was silent", () => {
    const found = begin(history([10_000, 20_000, 90_000], { connections: [1, 2, 3] }));
    expect(withGaps(found, [found.lines["connections"] ?? []])).toEqual([
      [10, 20, 55, 90],
      [1, 2, null, 3],
    ]);
  });

  it("draws nothing where there is nothing", () => {
    expect(withGaps(begin(history([], {})), [])).toEqual([[]]);
    expect(latest(undefined)).toBeNull();
    expect(latest([1, null])).toBeNull();
    expect(latest([null, 2])).toBe(2);
  });
});
