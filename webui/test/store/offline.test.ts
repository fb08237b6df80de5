import "fake-indexeddb/auto";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { RawEntry } from "../../src/conversation/entry";
import type { ProjectStateData } from "../../src/wire/generated";
import { inStore } from "../../src/store/memory";
import { OfflinePages } from "../../src/store/offline";

const pages = new OfflinePages(() => true);
/** For a busy machine, in milliseconds. */
const PATIENCE = { timeout: 60_000 };

beforeEach(async () => {
  vi.useFakeTimers({ toFake: ["Date"] });
  await pages.wipe();
});
afterEach(() => vi.useRealTimers());

/** The offsets of a stored page, once a change that was made before has been carried out. */
async function stored(conversationId: string): Promise<readonly number[]> {
  return vi.waitFor(async () => {
    const page = await pages.page(conversationId);
    if (page === null) throw new Error(`${conversationId} is not stored`);
    return page.entries.map(({ offset }) => offset);
  }, PATIENCE);
}

function entry(offset: number, text: string): RawEntry {
  return { offset, timestamp: "2026-01-01T00:00:00.000Z", type: "prompt", data: { text } };
}

function project(id: string): ProjectStateData {
  return { id, name: id, path: `/${id}`, last_active: "2026-01-01T00:00:00.000Z" } as ProjectStateData;
}

test("of a page that is too large the newest entries are stored", async () => {
  const large = Array.from({ length: 20 }, (_, at) => entry(at + 1, "é".repeat(10_000))); // 20,000 bytes each
  pages.putPage("a", large);
  expect(await stored("a")).toEqual([15, 16, 17, 18, 19, 20]);
});

test("an entry that is larger than a page is not stored", async () => {
  pages.putPage("a", [entry(1, "small"), entry(2, "x".repeat(200_000)), entry(3, "small")]);
  expect(await stored("a")).toEqual([3]);
});

test("the oldest page is evicted", async () => {
  for (let at = 1; at <= 14; at++) {
    vi.setSystemTime(at);
    pages.putPage(`p${String(at)}`, [entry(1, "text")]);
  }
  vi.setSystemTime(15);
  pages.putPage("p3", [entry(2, "stored again")]);
  pages.putPage("last", [entry(1, "text")]);
  await stored("last");
  const ids = (await inStore("readonly", (store) => store.getAllKeys())).map(String);
  expect(ids.sort()).toEqual(
    ["last", "p3", ...Array.from({ length: 10 }, (_, at) => `p${String(at + 5)}`)].map((id) => `offline ${id}`).sort(),
  );
});

test("the list is bounded, and pages of projects that are gone are deleted", async () => {
  for (const id of ["p1", "gone"]) pages.putPage(id, [entry(1, "text")]);
  const many = Array.from({ length: 300 }, (_, at) => project(`p${String(at)}`));
  pages.putList(many, true);
  const list = await vi.waitFor(async () => (await pages.list()) ?? Promise.reject(new Error("no list")), PATIENCE);
  expect(list.projects).toHaveLength(200);
  expect(await stored("p1")).toEqual([1]);
  expect(await pages.page("gone")).toBeNull();
});

test("what the user has not chosen to store is neither stored nor shown", async () => {
  pages.putPage("a", [entry(1, "text")]);
  await stored("a");
  const off = new OfflinePages(() => false);
  off.putPage("b", [entry(1, "text")]);
  expect(await off.page("a")).toBeNull();
  await new OfflinePages(() => true).page("b");
  expect(await pages.page("b")).toBeNull();
});
