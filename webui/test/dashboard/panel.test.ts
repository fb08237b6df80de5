import { describe, expect, it } from "vitest";
import { GROUPS, GUIDE, linesOf, type Panel } from "../../src/dashboard/panel";
import { rows, summary } from "../../src/dashboard/summary";
import { begin } from "../../src/dashboard/timeline";

function found(id: string): Panel {
  const panel = [GUIDE, ...GROUPS].flatMap(({ panels }) => panels).find((candidate) => candidate.id === id);
  if (panel === undefined) throw new Error(id);
  return panel;
}

const TIMES = [10_000, 20_000];
const timeline = begin({
  began: "a",
  step: 10,
  times: TIMES,
  series: {
    "executions.success": [null, 0.5],
    "executions.error": [null, 0],
    "executions.killed": [0, 0.1],
    "errors.INTERNAL_ERROR": [0, 0.1],
    "errors.FILE_OPERATION": [0, 0.2],
    connections: [1, 3],
    "memory.server": [1024, 2048],
    "memory.machine": [0, 0],
  },
});

describe("the panels", () => {
  it("begin with the guide's four, in its words", () => {
    expect(GUIDE.panels.map(({ title }) => title)).toEqual([
      "Active Connections",
      "Execution Rate",
      "Execution Duration (95th percentile)",
      "Error Rate",
    ]);
    expect(GROUPS.map(({ title }) => title)).toEqual(["Resource usage", "Application", "Business"]);
  });

  it("have ids and lines of their own", () => {
    const panels = [GUIDE, ...GROUPS].flatMap((group) => group.panels);
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
    const names = panels.flatMap(({ figures }) => figures.map(({ name }) => name));
    expect(new Set(names).size).toBe(names.length);
  });

  it("tell rates by the minute, and leave out what never happened", () => {
    const lines = linesOf(found("executions"), timeline);
    expect(lines.map(({ figure, line }) => [figure.label, line])).toEqual([
      ["success", [null, 30]],
      ["killed", [0, 6]],
    ]);
  });

  it("keep lines that are zero where that says something", () => {
    expect(linesOf(found("memory"), timeline).map(({ line }) => line)).toEqual([
      [1024, 2048],
      [0, 0],
    ]);
  });

  it("find the codes of errors as they come, each in a colour of its own", () => {
    const figures = linesOf(found("errors"), timeline).map(({ figure }) => figure);
    expect(figures.map(({ label }) => label)).toEqual(["INTERNAL_ERROR", "FILE_OPERATION"]);
    expect(new Set(figures.map(({ colour }) => colour)).size).toBe(2);
  });
});

describe("a chart in words", () => {
  it("says where each line is and was", () => {
    const panel = found("connections");
    expect(summary(linesOf(panel, timeline), panel.unit)).toBe("Active: 3 now, between 1 and 3.");
    expect(summary([], "count")).toBe("No data in this period.");
    const empty = linesOf(found("execution-p95"), timeline);
    expect(summary(empty, "seconds")).toBe("p95: no values.");
  });

  it("has rows from the newest back, no more than asked for", () => {
    const line = Array.from({ length: 360 }, (_, index) => index);
    const times = line.map((index) => index * 10_000);
    const table = rows(times, [line], "count");
    expect(table).toHaveLength(12);
    expect(table[0]?.[1]).toBe("359");
    expect(rows(TIMES, [[1, null]], "count").map((row) => row[1])).toEqual(["–", "1"]);
  });
});
