// @vitest-environment happy-dom
import { beforeEach, expect, test, vi } from "vitest";
import type { RawEntry } from "../../src/conversation/entry";
import { Timeline } from "../../src/conversation/timeline";

const BOUNDS = { entries: 10, characters: 10_000 };

function said(offset: number, text = `line ${offset}`): RawEntry {
  const data = { type: "assistant", message: { content: [{ type: "text", text }] } };
  return { offset, timestamp: "2026-01-01T00:00:00Z", type: "agent_message", data };
}

function page(from: number, to: number): RawEntry[] {
  return Array.from({ length: to - from + 1 }, (_, at) => said(from + at));
}

function offsets(timeline: Timeline): number[] {
  return timeline.items.map(({ offset }) => offset);
}

let timeline: Timeline;

beforeEach(() => {
  vi.stubGlobal("requestAnimationFrame", (tell: () => void) => {
    tell();
    return 0;
  });
  timeline = new Timeline(BOUNDS);
});

test("it holds the newest entries and forgets the oldest ones", () => {
  timeline.reset(page(96, 100), 1, 100);
  for (const raw of page(101, 110)) timeline.append(raw);
  expect(offsets(timeline)).toEqual(page(101, 110).map(({ offset }) => offset));
  expect([timeline.firstOffset, timeline.lastOffset, timeline.hasOlder, timeline.hasNewer]).toEqual([
    101,
    110,
    true,
    false,
  ]);
});

test("going back it forgets the newest ones, and counts what comes meanwhile", () => {
  timeline.reset(page(96, 100), 1, 100);
  timeline.prepend(page(88, 95), 1);
  expect([timeline.firstOffset, timeline.lastOffset, timeline.hasNewer]).toEqual([88, 97, true]);
  timeline.append(said(101));
  expect(offsets(timeline).at(-1)).toBe(97);
  timeline.extend(page(98, 101));
  expect([timeline.firstOffset, timeline.lastOffset, timeline.hasNewer]).toEqual([92, 101, false]);
  timeline.append(said(102));
  expect(offsets(timeline).at(-1)).toBe(102);
});

test("it knows where the log begins", () => {
  timeline.reset(page(5, 8), 5, 8);
  expect(timeline.hasOlder).toBe(false);
  timeline.reset(page(5, 8), 4, 8);
  expect(timeline.hasOlder).toBe(true);
  timeline.prepend(page(4, 4), 4);
  expect(timeline.hasOlder).toBe(false);
});

test("entries that are in memory already are not doubled", () => {
  timeline.reset(page(5, 8), 1, 10);
  timeline.prepend(page(3, 6), 1);
  timeline.extend(page(7, 10));
  expect(offsets(timeline)).toEqual([3, 4, 5, 6, 7, 8, 9, 10]);
});

test("characters are bounded as well, but one entry is always held", () => {
  timeline.reset([], 1, 0);
  for (let offset = 1; offset <= 5; offset += 1) timeline.append(said(offset, "x".repeat(4000)));
  expect(offsets(timeline)).toEqual([4, 5]);
  timeline.append(said(6, "x".repeat(100_000)));
  expect(offsets(timeline)).toEqual([6]);
});

test("results and approvals are found by the call, and forgotten with their entries", () => {
  const result = { type: "user", message: { content: [{ type: "tool_result", tool_use_id: "t", content: "done" }] } };
  timeline.reset([], 1, 0);
  timeline.append({
    offset: 1,
    timestamp: "",
    type: "approval_requested",
    data: { approval_id: "a", tool_use_id: "t" },
  });
  expect(timeline.approvalOf("t")).toEqual({ approvalId: "a", outcome: undefined });
  timeline.append({
    offset: 2,
    timestamp: "",
    type: "approval_resolved",
    data: { approval_id: "a", behavior: "allow", by: "me" },
  });
  timeline.append({ offset: 3, timestamp: "", type: "agent_message", data: result });
  expect(timeline.approvalOf("t")?.outcome).toMatchObject({ behavior: "allow", by: "me" });
  expect(timeline.outcomeOf("a")).toMatchObject({ by: "me" });
  expect(timeline.resultOf("t")?.text).toBe("done");
  for (const raw of page(4, 20)) timeline.append(raw);
  expect([timeline.approvalOf("t"), timeline.outcomeOf("a"), timeline.resultOf("t")]).toEqual([
    undefined,
    undefined,
    undefined,
  ]);
});

test("an empty log is empty, a short one is not", () => {
  expect(timeline.isEmpty.value).toBe(true);
  timeline.reset([], 1, 0);
  expect([timeline.isEmpty.value, timeline.hasOlder, timeline.hasNewer]).toEqual([true, false, false]);
  timeline.append(said(1));
  expect(timeline.isEmpty.value).toBe(false);
});
