import { expect, test } from "vitest";
import { outline } from "../../src/device/qr";

test("modules that touch in a row are one rectangle", () => {
  expect(outline(["0110", "1001"])).toBe("M1 0h2v1h-2zM0 1h1v1h-1zM3 1h1v1h-1z");
});

test("a row without a dark module draws nothing", () => {
  expect(outline(["000", "111"])).toBe("M0 1h3v1h-3z");
});
