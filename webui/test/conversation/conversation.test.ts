// @vitest-environment happy-dom
import { afterEach, beforeEach, expect, test } from "vitest";
import { Link } from "../../src/connection/link";
import { Conversation } from "../../src/conversation/conversation";
import { Approvals } from "../../src/store/approvals";
import { OfflinePages } from "../../src/store/offline";
import { Network, settle } from "../connection/network";

let network: Network;
let link: Link;
let conversation: Conversation;

/** Where the history of the session ends. */
const END = 1000;
const RESUMED = { type: "session_resumed", message: { session_id: "s", fork: false, title: "at the desk", end: END } };

beforeEach(async () => {
  network = new Network();
  link = new Link(network.open);
  link.start();
  network.wire.accept();
  conversation = new Conversation(link, "p", new Approvals(), new OfflinePages(() => false));
  conversation.start();
  await settle();
  const own = { offset: 2, type: "prompt", message: { prompt: "mine", by: "phone", execution_id: "e1" } };
  await answer("get_messages", { messages: [entry({ offset: 1, ...RESUMED }), entry(own)], metadata: META });
});

afterEach(() => {
  conversation.stop();
  link.stop();
});

const META = { epoch: "e", first_offset: 1, last_offset: 2, has_more: false };
const entry = (fields: object): object => ({ timestamp: "2026-01-01T00:00:00Z", direction: "claude", ...fields });
const shown = (): readonly string[] =>
  conversation.timeline.items.map((item) => ("text" in item ? item.text : item.kind));

function said(offset: number, text: string, more: object = {}): object {
  const message = { type: "assistant", message: { content: [{ type: "text", text }] } };
  return entry({ offset, type: "agent_message", message, ...more });
}

async function answer(type: string, data: object): Promise<void> {
  network.wire.reply(type, data);
  await settle();
}

async function older(): Promise<void> {
  void conversation.loadOlder();
  await settle();
}

test("a conversation that continues a session begins with its history, read by pages", async () => {
  await older();
  expect(network.wire.asked("session_history").data).toMatchObject({ session_id: "s", before: END, limit: 100 });
  const cut = { size: 5000, cut: ["/message/content/0/text"] };
  const newest = [said(600, "cut", cut), said(800, "newest")];
  await answer("session_history", { epoch: "f", messages: newest, before: 500, end: END });
  expect(shown()).toEqual(["cut", "newest", "Back to “at the desk”", "mine"]);
  await older();
  expect(network.wire.asked("session_history").data).toMatchObject({ before: 500 });
  await answer("session_history", { epoch: "f", messages: [said(0, "oldest")], before: 0, end: 500 });
  expect(shown()).toEqual(["oldest", "cut", "newest", "Back to “at the desk”", "mine"]);
  expect(conversation.timeline.hasOlder).toBe(false);

  void conversation.loadWhole({ offset: 600 - END, size: 5000 });
  await settle();
  expect(network.wire.asked("session_history").data).toMatchObject({ before: 800, limit: 1, large: "whole" });
  await answer("session_history", { epoch: "f", messages: [said(600, "whole")], before: 0, end: 800 });
  expect(shown()[1]).toBe("whole");
});

test("a session that is gone is said to be gone, once", async () => {
  await older();
  network.wire.refuse("session_history", "VALIDATION_FAILED");
  await settle();
  expect(shown()[0]).toContain("are gone");
  expect(conversation.timeline.hasOlder).toBe(false);
});

test("the history is there as soon as a session is continued in an empty conversation", async () => {
  conversation.stop();
  conversation = new Conversation(link, "p", new Approvals(), new OfflinePages(() => false));
  conversation.start();
  await settle();
  const metadata = { ...META, last_offset: 0 };
  await answer("get_messages", { messages: [], metadata });
  const joined = { state: "IDLE", epoch: "e", offset: 0, recovered: true, approvals: [], queue: [] };
  await answer("project_join", joined);
  expect(conversation.timeline.hasOlder).toBe(false);
  network.wire.say({ project_id: "p", offset: 1, type: RESUMED.type, data: RESUMED.message });
  expect(conversation.timeline.hasOlder).toBe(true);
  await older();
  expect(network.wire.asked("session_history").data).toMatchObject({ before: END });
});
