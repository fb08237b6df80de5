import { describe, expect, it } from "vitest";
import { ago, seconds, shown } from "../../src/dashboard/format";

describe("a value for a person", () => {
  it.each([
    [null, "count", "–"],
    [Number.NaN, "bytes", "–"],
    [0, "count", "0"],
    [3, "count", "3"],
    [12_345, "count", "12.3 k"],
    [2_500_000, "count", "2.5 M"],
    [4.8, "per_minute", "4.8/min"],
    [0, "seconds", "0 s"],
    [0.000_42, "seconds", "420 µs"],
    [0.95, "seconds", "950 ms"],
    [75.2, "seconds", "1 min 15 s"],
    [3700, "seconds", "1 h 1 min"],
    [90_000, "seconds", "1 d 1 h"],
    [1024, "bytes", "1 KiB"],
    [76_336_333, "bytes", "72.8 MiB"],
    [1536, "bytes_per_second", "1.5 KiB/s"],
    [0.985, "ratio", "98.5 %"],
    [0.0699, "usd", "$0.0699"],
    [12.5, "usd", "$12.50"],
    [0, "usd", "$0.00"],
  ] as const)("%s %s is %s", (value, unit, text) => {
    expect(shown(value, unit)).toBe(text);
  });

  it("says how long ago something was", () => {
    expect(ago(1000, 1500)).toBe("just now");
    expect(ago(1000, 66_000)).toBe("1 min 5 s ago");
    expect(ago(2000, 1000)).toBe("just now");
    expect(seconds(120)).toBe("2 min");
  });
});
