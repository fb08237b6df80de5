// @vitest-environment happy-dom
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Link } from "../../src/connection/link";
import { SessionReader } from "../../src/conversation/session_reader";
import { Network, settle } from "../connection/network";

let network: Network;
let link: Link;
let reader: SessionReader;

beforeEach(async () => {
  network = new Network();
  link = new Link(network.open);
  link.start();
  network.wire.accept();
  reader = new SessionReader(link, "p", "s");
  reader.start();
  await settle();
});

afterEach(() => {
  reader.stop();
  link.stop();
  vi.useRealTimers();
});

interface Page {
  readonly epoch?: string;
  readonly before?: number;
  readonly end?: number;
  readonly active?: boolean;
  readonly ended?: string;
}

/** Records at these positions, each of 10 bytes. */
function records(positions: readonly number[]): object[] {
  return positions.map((offset) => ({
    offset,
    timestamp: "2026-01-01T00:00:00Z",
    type: "agent_message",
    message: { type: "assistant", message: { content: [{ type: "text", text: `at ${offset}` }] } },
  }));
}

async function page(positions: readonly number[], { epoch = "e", before = 0, ...more }: Page = {}): Promise<void> {
  const end = (positions.at(-1) ?? 0) + 10;
  network.wire.reply("session_history", { epoch, messages: records(positions), before, end, ...more });
  await settle();
}

function lines(positions: readonly number[], { epoch = "e", active = true, ...more }: Page = {}): object {
  const end = (positions.at(-1) ?? 0) + 10;
  return { session_id: "s", epoch, messages: records(positions), end, active, ...more };
}

async function followed(positions: readonly number[], more: Page = {}): Promise<void> {
  network.wire.reply("session_follow", lines(positions, more), "session_lines");
  await settle();
}

async function pushed(positions: readonly number[], more: Page = {}): Promise<void> {
  network.wire.say({ type: "session_lines", project_id: "p", data: lines(positions, more) });
  await settle();
}

const shown = (): readonly string[] => reader.timeline.items.map((item) => (item.kind === "text" ? item.text : ""));

async function reconnect(): Promise<void> {
  vi.useFakeTimers();
  const before = network.wires.length;
  network.wire.drop();
  while (network.wires.length === before) await vi.advanceTimersByTimeAsync(1000);
  vi.useRealTimers();
  network.wire.accept();
  await settle();
}

test("records of a terminal follow the newest page, each once, and also after a reconnect", async () => {
  await page([10, 20]);
  expect(network.wire.asked("session_follow").data).toMatchObject({ epoch: "e", after: 30 });
  await followed([], { end: 30, active: false });
  expect(reader.active.value).toBe(false);
  await pushed([30]);
  await pushed([30, 40]);
  expect(reader.active.value).toBe(true);
  await reconnect();
  expect(network.wire.asked("session_follow").data).toMatchObject({ epoch: "e", after: 50 });
  await followed([50]);
  expect(shown()).toEqual(["at 10", "at 20", "at 30", "at 40", "at 50"]);
});

test("older records are read until the beginning of the file", async () => {
  await page([30], { before: 30 });
  void reader.loadOlder();
  await settle();
  expect(network.wire.asked("session_history").data).toMatchObject({ before: 30 });
  await page([], { before: 20 }); // it had only records that are not shown
  void reader.loadOlder();
  await settle();
  expect(network.wire.asked("session_history").data).toMatchObject({ before: 20 });
  await page([0, 10]);
  expect(shown()).toEqual(["at 0", "at 10", "at 30"]);
  const asked = network.wire.sent.length;
  await reader.loadOlder();
  expect(network.wire.sent.length).toBe(asked);
});

test("a file that was replaced is read anew, and a deleted one stays readable", async () => {
  await page([10]);
  await followed([], { end: 20 });
  await pushed([], { end: 20, ended: "replaced" });
  await page([0], { epoch: "f" });
  expect(network.wire.asked("session_follow").data).toMatchObject({ epoch: "f", after: 10 });
  await pushed([20], { epoch: "e" }); // of the old file
  await followed([], { epoch: "f", end: 10 });
  expect(shown()).toEqual(["at 0"]);
  await pushed([], { epoch: "f", end: 10, ended: "deleted" });
  expect(reader.problem.value).toBe("Claude Code has deleted this session.");
  expect(shown()).toEqual(["at 0"]);
});

test("leaving ends the following", async () => {
  await page([10]);
  reader.stop();
  expect(network.wire.asked("session_unfollow").data).toEqual({ session_id: "s" });
  await followed([20]);
  expect(shown()).toEqual(["at 10"]);
});
