// @vitest-environment happy-dom
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Store } from "../../src/store/store";
import { Network } from "../connection/network";

let network: Network;
let store: Store;

beforeEach(() => {
  vi.useFakeTimers();
  network = new Network();
  store = new Store(network.open);
});

afterEach(() => {
  store.link.stop();
  vi.useRealTimers();
});

const watches = (): unknown[] => network.wire.sent.filter(({ type }) => type === "watch").map(({ data }) => data);

test("the server is told when nobody looks any more, and when somebody does again", () => {
  store.link.start();
  network.wire.accept();
  store.setAway(false);
  expect(watches()).toEqual([{ away: false, announce: true }]);
  store.setAway(true);
  store.setAway(true);
  store.setAway(false);
  expect(watches()).toEqual([
    { away: false, announce: true },
    { away: true, announce: true },
    { away: false, announce: true },
  ]);
});

test("a page that nobody looks at says so with each connection", () => {
  store.setAway(true);
  store.link.start();
  network.wire.accept();
  expect(watches()).toEqual([{ away: true, announce: true }]);
  network.wire.drop();
  while (network.wires.length < 2) vi.advanceTimersByTime(50);
  network.wire.accept();
  expect(watches()).toEqual([{ away: true, announce: true }]);
});
