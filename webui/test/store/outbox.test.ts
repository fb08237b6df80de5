// @vitest-environment happy-dom
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Link } from "../../src/connection/link";
import { Outbox } from "../../src/store/outbox";
import type { Frame } from "../../src/wire/frame";
import { Network, settle } from "../connection/network";

let network: Network;
let link: Link;
let outbox: Outbox;

beforeEach(() => {
  vi.useFakeTimers();
  localStorage.clear();
  network = new Network();
  link = new Link(network.open);
  outbox = new Outbox(link);
  link.start();
});

afterEach(() => {
  link.stop();
  vi.useRealTimers();
});

const prompts = (): string[] => outbox.list.value.map(({ prompt }) => prompt);

test("a prompt waits for the connection, is sent, and is gone when the server has it", async () => {
  outbox.send("p", "do it");
  expect(prompts()).toEqual(["do it"]);
  network.wire.accept();
  await settle();
  const { data, conversation_id } = network.wire.asked("execute");
  expect(conversation_id).toBe("p");
  expect(data).toEqual({ prompt: "do it", prompt_id: outbox.list.value[0]?.promptId, when: "queue" });
  network.wire.reply("execute", { status: "started" });
  await settle();
  expect(prompts()).toEqual([]);
  expect(localStorage.getItem("outbox")).toBeNull();
});

test("prompts of a project are sent in their order, each once the one before was taken", async () => {
  for (const prompt of ["one", "two"]) outbox.send("p", prompt);
  outbox.send("q", "other");
  network.wire.accept();
  await settle();
  expect(network.wire.sent.map(({ data }) => (data as { prompt: string }).prompt)).toEqual(["one", "other"]);
  const first = network.wire.sent[0];
  network.wire.say({ type: "execute", request_id: first?.request_id, data: { status: "started" } });
  await settle();
  expect(network.wire.asked("execute").data).toMatchObject({ prompt: "two" });
});

test("a prompt for the running turn stays one after a reload and a refusal", async () => {
  outbox.send("p", "do it", "now");
  const again = new Outbox(link);
  outbox.discard(outbox.list.value[0]?.promptId ?? "");
  network.wire.accept();
  await settle();
  expect(network.wire.asked("execute").data).toMatchObject({ prompt: "do it", when: "now" });
  network.wire.refuse("execute", "FORBIDDEN");
  await settle();
  again.retry(again.list.value[0]?.promptId ?? "");
  await settle();
  const asked = network.wire.sent.filter(({ type }) => type === "execute");
  expect(asked.map(({ data }) => (data as { when: string }).when)).toEqual(["now", "now"]);
});

test("it survives a reload, under the same id", async () => {
  outbox.send("p", "do it");
  const id = outbox.list.value[0]?.promptId;
  const again = new Outbox(link);
  expect(again.list.value).toEqual([{ promptId: id, conversationId: "p", prompt: "do it" }]);
  network.wire.accept();
  await settle();
  expect(network.wire.sent.map(({ data }) => (data as { prompt_id: string }).prompt_id)).toEqual([id, id]);
});

test("when the reply is lost, the entry in the log is enough", async () => {
  outbox.send("p", "do it");
  network.wire.accept();
  await settle();
  const prompt_id = outbox.list.value[0]?.promptId;
  outbox.accept({
    type: "prompt",
    timestamp: "",
    offset: 1,
    data: { execution_id: "x", prompt: "do it", by: "me", prompt_id },
  } as Frame);
  expect(prompts()).toEqual([]);
});

test("a prompt that is refused stays, with the reason, and is not sent again", async () => {
  outbox.send("p", "do it");
  network.wire.accept();
  await settle();
  network.wire.refuse("execute", "RESOURCE_LIMIT", "The queue is full.");
  await settle();
  expect(outbox.list.value[0]?.refusal).toBe("The queue is full.");
  const again = new Outbox(link);
  await settle();
  expect(network.wire.sent).toHaveLength(1);
  const [kept] = again.list.value;
  again.discard(kept?.promptId ?? "");
  expect(again.list.value).toEqual([]);
});

test("a prompt that was refused is sent again on request, under the same id", async () => {
  outbox.send("p", "do it");
  network.wire.accept();
  await settle();
  network.wire.refuse("execute", "CLAUDE_NOT_FOUND", "The Claude Code CLI was not found.");
  await settle();
  const promptId = outbox.list.value[0]?.promptId ?? "";
  outbox.retry(promptId);
  await settle();
  const sent = network.wire.sent.filter(({ type }) => type === "execute");
  expect(sent.map(({ data }) => data)).toEqual([sent[0]?.data, sent[0]?.data]);
  expect(outbox.list.value[0]?.refusal).toBeUndefined();
  network.wire.reply("execute", { status: "started" });
  await settle();
  expect(prompts()).toEqual([]);
});

test("a server that wants it slower gets it later", async () => {
  outbox.send("p", "do it");
  network.wire.accept();
  await settle();
  network.wire.refuse("execute", "RATE_LIMITED");
  await settle();
  await vi.advanceTimersByTimeAsync(2000);
  expect(network.wire.sent.filter(({ type }) => type === "execute")).toHaveLength(2);
});

test("what is taken back before it was sent never is", async () => {
  outbox.send("p", "do it");
  outbox.discard(outbox.list.value[0]?.promptId ?? "");
  network.wire.accept();
  await settle();
  expect(network.wire.sent).toEqual([]);
});

test("what was kept by something else is ignored", () => {
  for (const text of ["nonsense", "{}", '[null, 1, {"promptId": 1}]']) {
    localStorage.setItem("outbox", text);
    expect(new Outbox(link).list.value).toEqual([]);
  }
});

test("a deleted project gets no prompts", () => {
  outbox.send("p", "do it");
  outbox.accept({ type: "project_deleted", timestamp: "", data: { project_id: "p" } });
  expect(prompts()).toEqual([]);
});

test("prompts for a deleted conversation go, and those for the others stay", () => {
  for (const id of ["p", "p.a", "p.b"]) outbox.send(id, `for ${id}`);
  const data = { project_id: "p", conversation_id: "p.a" };
  outbox.accept({ type: "conversation_deleted", timestamp: "", data });
  expect(prompts()).toEqual(["for p", "for p.b"]);
});

test("a prompt is sent that a client kept which knew of one conversation per project", async () => {
  localStorage.setItem("outbox", JSON.stringify([{ promptId: "1", projectId: "p", prompt: "do it" }]));
  network.wire.accept();
  const again = new Outbox(link);
  await settle();
  expect(again.list.value).toEqual([{ promptId: "1", conversationId: "p", prompt: "do it" }]);
  expect(network.wire.asked("execute").conversation_id).toBe("p");
});
