import { expect, test } from "vitest";
import {
  formatAgo,
  formatClock,
  formatCost,
  formatCount,
  formatDuration,
  formatSize,
  formatTime,
} from "../../src/text/format";

test.each([
  [0.04, "0.0 s"],
  [4.24, "4.2 s"],
  [42.4, "42 s"],
  [59.9, "60 s"],
  [192, "3 m 12 s"],
  [7500, "2 h 5 m"],
])("%f seconds are %s", (seconds, text) => expect(formatDuration(seconds)).toBe(text));

test("figures", () => {
  expect([0, 999, 12_345, 1_200_000].map(formatCount)).toEqual(["0", "999", "12.3K", "1.2M"]);
  expect([0, 0.00123, 0.0123, 12.3].map(formatCost)).toEqual(["$0", "$0.0012", "$0.01", "$12.30"]);
  expect([7, 62, 3723].map(formatClock)).toEqual(["0:07", "1:02", "1:02:03"]);
  expect([12, 12_345, 1_234_567].map(formatSize)).toEqual(["12 B", "12 KB", "1.2 MB"]);
});

test("how long ago", () => {
  const now = new Date("2026-03-10T12:00:00Z").getTime();
  const ago = (at: string): string => formatAgo(at, now);
  expect(ago("2026-03-10T11:59:30Z")).toBe("just now");
  expect(ago("2026-03-10T11:15:00Z")).toBe("45 min ago");
  expect(ago("2026-03-10T02:00:00Z")).toBe("10 h ago");
  expect(ago("2026-03-09T11:00:00Z")).toBe("1 day ago");
  expect(ago("2026-03-01T11:00:00Z")).toBe("9 days ago");
  expect(ago("nonsense")).toBe("");
});

test("a time of another day has its day", () => {
  const now = new Date(2026, 2, 10, 12);
  expect(formatTime(new Date(2026, 2, 10, 9, 5).toISOString(), now)).not.toMatch(/Mar/);
  expect(formatTime(new Date(2026, 2, 9, 9, 5).toISOString(), now)).toMatch(/Mar/);
  expect(formatTime("nonsense")).toBe("");
});
