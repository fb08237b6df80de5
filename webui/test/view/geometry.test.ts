import { expect, test } from "vitest";
import { Geometry } from "../../src/view/list/geometry";

function keys(count: number): string[] {
  return Array.from({ length: count }, (_, at) => `k${at}`);
}

test("what was not measured is taken for as high as the others on average", () => {
  const geometry = new Geometry(100);
  geometry.setKeys(keys(10));
  expect(geometry.total).toBe(1000);
  geometry.measure("k0", 20);
  geometry.measure("k1", 40);
  expect(geometry.total).toBe(20 + 40 + 8 * 30);
  expect([geometry.topOf(0), geometry.topOf(1), geometry.topOf(2), geometry.topOf(99)]).toEqual([0, 20, 60, 300]);
});

test("measuring the same again is no news", () => {
  const geometry = new Geometry(100);
  geometry.setKeys(keys(2));
  expect([geometry.measure("k0", 20), geometry.measure("k0", 20.2), geometry.measure("k0", 25)]).toEqual([
    true,
    false,
    true,
  ]);
});

test("items are found by where they are", () => {
  const geometry = new Geometry(10);
  geometry.setKeys(keys(100));
  expect([-5, 0, 9, 10, 995, 5000].map((y) => geometry.indexAt(y))).toEqual([0, 0, 0, 1, 99, 99]);
  expect(geometry.between(95, 205)).toEqual({ start: 9, end: 21 });
  expect(geometry.between(-50, 5)).toEqual({ start: 0, end: 1 });
});

test("heights stay with their items when others come before them", () => {
  const geometry = new Geometry(10);
  geometry.setKeys(["b", "c"]);
  geometry.measure("b", 30);
  geometry.setKeys(["a", "b", "c"]);
  expect(geometry.topOf(geometry.indexOf("b") + 1) - geometry.topOf(geometry.indexOf("b"))).toBe(30);
});

test("what left the list is forgotten some time", () => {
  const geometry = new Geometry(10);
  for (let turn = 0; turn < 20; turn += 1) {
    const present = Array.from({ length: 50 }, (_, at) => `${turn}-${at}`);
    geometry.setKeys(present);
    for (const key of present) geometry.measure(key, 10 + turn);
  }
  expect(geometry.total).toBe(50 * 29);
  geometry.setKeys(["new"]);
  expect(geometry.total).toBeLessThan(40);
});

test("an empty list has nothing in it", () => {
  const geometry = new Geometry(10);
  geometry.setKeys([]);
  expect([geometry.total, geometry.between(0, 1000), geometry.keyOf(0)]).toEqual([0, { start: 0, end: 0 }, undefined]);
});
