import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Link } from "../../src/connection/link";
import { Network, settle } from "./network";

let network: Network;
let link: Link;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "performance", "Date"] });
  vi.spyOn(Math, "random").mockReturnValue(0.5);
  network = new Network();
  link = new Link(network.open);
  link.start();
});

afterEach(() => {
  link.stop();
  vi.useRealTimers();
  vi.restoreAllMocks();
});

test("it says how the connection is", async () => {
  expect(link.status.value.kind).toBe("connecting");
  network.wire.accept();
  expect(link.status.value.kind).toBe("online");
  network.wire.say({ type: "server_stats", data: {} });
  network.wire.drop();
  expect(link.status.value).toMatchObject({ kind: "waiting", attempt: 0 });
  await vi.advanceTimersByTimeAsync(200);
  expect(link.status.value.kind).toBe("connecting");
  expect(network.wires).toHaveLength(2);
});

test("waits grow while nobody answers, and begin again once somebody does", async () => {
  const attempts = [];
  for (let turn = 0; turn < 4; turn += 1) {
    network.wire.drop();
    const status = link.status.value;
    if (status.kind === "waiting") attempts.push([status.attempt, status.retryAt - Date.now()]);
    await vi.advanceTimersByTimeAsync(2100);
  }
  expect(attempts).toEqual([
    [1, 250],
    [2, 500],
    [3, 1000],
    [4, 2000],
  ]);
  network.wire.accept();
  network.wire.say({ type: "server_stats", data: {} });
  network.wire.drop();
  expect(link.status.value).toMatchObject({ attempt: 0 });
});

test("a server that accepts and hangs up counts as down", () => {
  network.wire.accept();
  network.wire.drop();
  expect(link.status.value).toMatchObject({ kind: "waiting", attempt: 1 });
});

test("an attempt that hangs is given up", async () => {
  await vi.advanceTimersByTimeAsync(10_500);
  expect(network.wires.length).toBeGreaterThan(1);
});

test.each([4001, 4009])("after close code %i it does not come back", async (code) => {
  network.wire.accept();
  network.wire.drop(code);
  expect(link.status.value.kind).toBe("refused");
  await vi.advanceTimersByTimeAsync(120_000);
  expect(network.wires).toHaveLength(1);
});

test("who does not want to wait can try now", () => {
  network.wire.drop();
  link.retry();
  expect(network.wires).toHaveLength(2);
});

test("a request waits for the connection", async () => {
  const asked = link.request("set_model", { model: "opus" }, { conversationId: "p" });
  network.wire.accept();
  await settle();
  network.wire.reply("set_model", { project_id: "p", model: "opus" });
  expect(await asked).toEqual({ project_id: "p", model: "opus" });
});

test("a request that may be repeated is, on the next connection", async () => {
  const asked = link.request("get_messages", { limit: 5 }, { conversationId: "p" });
  network.wire.accept();
  await settle();
  network.wire.drop();
  await vi.advanceTimersByTimeAsync(1000);
  network.wire.accept();
  await settle();
  network.wire.reply("get_messages", { messages: [] }, "messages_response");
  expect(await asked).toEqual({ messages: [] });
});

test("a prompt is repeated only under its id", async () => {
  const named = link.request("execute", { prompt: "x", prompt_id: "1" }, { conversationId: "p" });
  const nameless = link.request("execute", { prompt: "y" }, { conversationId: "p" });
  const refused = expect(nameless).rejects.toMatchObject({ closeCode: 1006 });
  network.wire.accept();
  await settle();
  network.wire.drop();
  await refused;
  await vi.advanceTimersByTimeAsync(1000);
  network.wire.accept();
  await settle();
  expect(network.wire.sent.map(({ data }) => data)).toEqual([{ prompt: "x", prompt_id: "1" }]);
  network.wire.reply("execute", { status: "started" });
  expect(await named).toEqual({ status: "started" });
});

test("what the connection broke over is not sent again", async () => {
  const asked = link.request("execute", { prompt: "x".repeat(10), prompt_id: "1" }, { conversationId: "p" });
  const refused = expect(asked).rejects.toMatchObject({ closeCode: 1009 });
  network.wire.accept();
  await settle();
  network.wire.drop(1009);
  await refused;
});

test("a request without a reply ends in time", async () => {
  const asked = link.request("health_check", {}, { timeoutMs: 1000 });
  const refused = expect(asked).rejects.toMatchObject({ name: "TimeoutError" });
  await vi.advanceTimersByTimeAsync(1001);
  await refused;
});

test("a link that has gone silent is asked, and given up when it does not answer", async () => {
  network.wire.accept();
  await vi.advanceTimersByTimeAsync(31_000);
  expect(network.wire.asked("server_stats").data).toEqual({});
  await vi.advanceTimersByTimeAsync(8_000);
  expect(network.wires[0]?.closedBy).toBe("client");
  expect(link.status.value.kind).not.toBe("online");
});

test("a link over which large frames come is given the time that they take", async () => {
  network.wire.accept();
  // 3 MB at 50 kB/s: of the frame itself nothing is seen before all of it has arrived.
  network.wire.say({ type: "incoming", data: { bytes: 3_000_000, frames: 2 } });
  await vi.advanceTimersByTimeAsync(60_000);
  network.wire.say({ type: "approval_requested", data: {} });
  await vi.advanceTimersByTimeAsync(60_000);
  expect(network.wires[0]?.closedBy).toBe(null);
  network.wire.say({ type: "project_state", data: {} });
  await vi.advanceTimersByTimeAsync(30_000 + 10_000 + 8_000);
  expect(network.wires[0]?.closedBy).toBe("client");
});

test("a frame that is announced after the question keeps a link, too", async () => {
  network.wire.accept();
  await vi.advanceTimersByTimeAsync(35_000);
  network.wire.say({ type: "incoming", data: { bytes: 3_000_000, frames: 1 } });
  await vi.advanceTimersByTimeAsync(60_000);
  expect(network.wires[0]?.closedBy).toBe(null);
});

test("what comes in before the answer keeps a link", async () => {
  network.wire.accept();
  await vi.advanceTimersByTimeAsync(31_000);
  for (let turn = 0; turn < 10; turn += 1) {
    network.wire.say({ type: "server_stats", data: {} });
    await vi.advanceTimersByTimeAsync(7_000);
  }
  expect(network.wires[0]?.closedBy).toBe(null);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(network.wires[0]?.closedBy).toBe("client");
});

test("a link that answers is kept", async () => {
  network.wire.accept();
  for (let turn = 0; turn < 5; turn += 1) {
    await vi.advanceTimersByTimeAsync(31_000);
    network.wire.reply("server_stats", {});
    await vi.advanceTimersByTimeAsync(9_000);
  }
  expect(network.wires).toHaveLength(1);
});

test("listeners hear of connections and frames until they stop", () => {
  const opened = vi.fn();
  const heard = vi.fn();
  const stops = [link.onOpen(opened), link.onFrame(heard)];
  network.wire.accept();
  network.wire.say({ type: "server_stats", data: {} });
  for (const stop of stops) stop();
  network.wire.say({ type: "server_stats", data: {} });
  expect([opened.mock.calls.length, heard.mock.calls.length]).toEqual([1, 1]);
});
