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
  expect(watches()).toEqual([{ away: false, announce: true, conversations: true }]);
  store.setAway(true);
  store.setAway(true);
  store.setAway(false);
  expect(watches()).toEqual([
    { away: false, announce: true, conversations: true },
    { away: true, announce: true, conversations: true },
    { away: false, announce: true, conversations: true },
  ]);
});

test("a page that nobody looks at says so with each connection", () => {
  store.setAway(true);
  store.link.start();
  network.wire.accept();
  expect(watches()).toEqual([{ away: true, announce: true, conversations: true }]);
  network.wire.drop();
  while (network.wires.length < 2) vi.advanceTimersByTime(50);
  network.wire.accept();
  expect(watches()).toEqual([{ away: true, announce: true, conversations: true }]);
});

test("what is open on a visible page is seen, whatever conversation it is", () => {
  const state = (id: string, offset: number): object => ({
    id: "p",
    name: "p",
    path: "",
    last_active: "",
    offset,
    ...(id === "p" ? {} : { conversation_id: id }),
  });
  store.link.start();
  network.wire.accept();
  network.wire.reply("watch", {
    projects: [state("p", 1)],
    conversations: [state("p.a", 1), state("p.b", 1)],
    approvals: [],
  });
  store.open("p.a");
  const say = (id: string, offset: number): void =>
    network.wire.say({ type: "project_state", project_id: "p", conversation_id: id, data: state(id, offset) });
  const unread = (): string[] =>
    store.projects.conversations.value.filter((one) => store.seen.isUnread(one)).map(({ id }) => id);
  for (const id of ["p", "p.a", "p.b"]) say(id, 2);
  expect(unread()).toEqual(["p", "p.b"]);
  store.setAway(true);
  say("p.a", 3);
  expect(unread().toSorted()).toEqual(["p", "p.a", "p.b"]);
  store.setAway(false);
  expect(unread()).toEqual(["p", "p.b"]);
});
