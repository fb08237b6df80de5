import { expect, test } from "vitest";
import { inOrder, letInBy, seenProjects } from "../../src/device/order";
import { device } from "./device";

test("this device stands first, then who is connected, then who was seen last, then who never came", () => {
  const devices = [
    device("never"),
    device("long ago", { last_seen: "2026-01-01T00:00:00.000Z" }),
    device("lately", { last_seen: "2026-03-01T00:00:00.000Z" }),
    device("there", { connections: 1, last_seen: "2026-02-01T00:00:00.000Z" }),
    device("here", { current: true }),
  ];
  const before = devices.map(({ name }) => name);
  expect(inOrder(devices).map(({ name }) => name)).toEqual(["here", "there", "lately", "long ago", "never"]);
  expect(devices.map(({ name }) => name)).toEqual(before);
});

test("of those that never came the newest stands first, and the name decides at last", () => {
  const devices = [
    device("b", { created_at: "2026-01-01T00:00:00.000Z" }),
    device("a", { created_at: "2026-01-01T00:00:00.000Z" }),
    device("new", { created_at: "2026-02-01T00:00:00.000Z" }),
  ];
  expect(inOrder(devices).map(({ name }) => name)).toEqual(["new", "a", "b"]);
});

test("projects are told by their names, and one that is gone by none", () => {
  const names = new Map([["1", "work"]]);
  const nameOf = (id: string): string | undefined => names.get(id);
  expect(seenProjects(device("x"), nameOf)).toBeNull();
  expect(seenProjects(device("x", { projects: ["1", "2"] }), nameOf)).toEqual(["work"]);
});

test("the devices that came in by codes of one are found, through others, and no others", () => {
  const devices = [
    device("phone"),
    device("tablet", { paired_by: "phone" }),
    device("script", { paired_by: "tablet" }),
    device("desk", { paired_by: "gone" }),
    device("loop", { paired_by: "loop" }),
  ];
  expect(letInBy(devices, "phone").map(({ id }) => id)).toEqual(["tablet", "script"]);
  expect(letInBy(devices, "loop")).toEqual([]);
});
