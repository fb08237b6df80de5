import { expect, test } from "vitest";
import { delay } from "../../src/connection/backoff";

test("waits grow up to a bound, and are spread", () => {
  expect([0, 1, 2, 3].map((attempt) => delay(attempt, () => 1))).toEqual([250, 500, 1000, 2000]);
  expect(delay(1000, () => 1)).toBe(15_000);
  expect(delay(5, () => 0)).toBe(0);
});
