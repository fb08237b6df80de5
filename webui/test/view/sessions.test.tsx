// @vitest-environment happy-dom
import { render } from "preact";
import { act } from "preact/test-utils";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Store, StoreProvider } from "../../src/store/store";
import { SessionsSheet } from "../../src/view/conversation/sessions";
import { Network, settle } from "../connection/network";
import { projectState } from "../state";

let network: Network;
let store: Store;
let root: HTMLElement;

/** Sessions: the conversation's own, one that a terminal left, and one that a terminal has open. */
const SESSIONS = [
  { session_id: "own", title: "mine", last_active: "", current: true, origin: "server", turns: null, size: null },
  {
    session_id: "left",
    title: "at the desk",
    last_active: "",
    current: false,
    origin: "terminal",
    turns: 12,
    turns_estimated: true,
    size: 9000,
    resume_command: "cd /work && claude --resume=left",
  },
  {
    session_id: "open",
    title: "",
    last_active: "",
    current: false,
    origin: "terminal",
    turns: 1,
    size: 1,
    active: true,
  },
];

beforeEach(async () => {
  network = new Network();
  store = new Store(network.open);
  store.link.start();
  network.wire.accept();
  root = document.createElement("div");
  document.body.append(root);
  await act(async () => {
    const project = store.projects.put(projectState());
    render(
      <StoreProvider value={store}>
        <SessionsSheet project={project} onClose={() => undefined} />
      </StoreProvider>,
      root,
    );
    await settle();
  });
  await settle();
  await answer("session_list", { sessions: SESSIONS });
});

afterEach(() => {
  render(null, root);
  root.remove();
  store.link.stop();
});

async function answer(type: string, data: object): Promise<void> {
  await act(async () => {
    network.wire.reply(type, data);
    await settle();
  });
  await settle();
}

async function say(type: string, data: object): Promise<void> {
  await act(async () => {
    network.wire.say({ type, data, project_id: "p" });
    await settle();
  });
  await settle();
}

async function press(name: string, within: ParentNode = root): Promise<void> {
  await act(async () => {
    buttons(within)
      .find((one) => nameOf(one) === name)
      ?.click();
    await settle();
  });
  await settle();
}

const buttons = (within: ParentNode): HTMLButtonElement[] => [...within.querySelectorAll("button")];
const nameOf = (one: Element): string => one.getAttribute("aria-label") ?? one.textContent;
const row = (at: number): Element => root.querySelectorAll(".sessions li")[at] ?? root;

test("sessions of terminals are marked, and continue in a terminal by a command", async () => {
  const copied = vi.spyOn(navigator.clipboard, "writeText").mockResolvedValue();
  expect(row(0).querySelector(".hint")?.textContent).toBe("This one");
  expect(row(1).querySelector(".hint")?.textContent).toBe("Terminal · about 12 turns");
  expect(row(1).querySelector("code")?.textContent).toBe("cd /work && claude --resume=left");
  await press("Copy the command for a terminal", row(1));
  expect(copied).toHaveBeenCalledExactlyOnceWith("cd /work && claude --resume=left");
});

test("one that is open in a terminal can only be copied", async () => {
  expect(buttons(row(1)).map(nameOf).slice(1)).toEqual(["Read", "Resume", "Fork"]);
  expect(row(2).querySelector(".hint")?.textContent).toBe("Terminal · Open in a terminal · 1 turn");
  expect(buttons(row(2)).map(nameOf)).toEqual(["Read", "Fork"]);
  await press("Fork", row(2));
  expect(network.wire.asked("session_resume").data).toEqual({ session_id: "open", fork: true });
});

test("one that another conversation continues leads there", async () => {
  const other = projectState({ conversation_id: "p.1", title: "Desk work" });
  await say("project_state", other);
  const held = { ...SESSIONS[1], conversation_id: "p.1" };
  await say("sessions_changed", { project_id: "p", sessions: [held, { ...SESSIONS[0], conversation_id: "p" }] });
  const at = [...root.querySelectorAll(".sessions li")].findIndex((one) => one.textContent.includes("at the desk"));
  expect(buttons(row(at)).map(nameOf).slice(1)).toEqual(["Read", "Fork"]);
  expect(row(at).querySelector("a")?.getAttribute("href")).toBe("/p/p.1");
  expect(row(at).querySelector("a")?.textContent).toBe("Desk work");
  expect(root.querySelectorAll(".sessions a")).toHaveLength(1);
});

test("the list follows what terminals do, and asks again after a reconnect", async () => {
  expect(network.wire.asked("session_list").data).toEqual({ watch: true });
  const begun = { ...SESSIONS[2], session_id: "new", title: "begun now", last_active: "2026-01-01T00:00:00Z" };
  const data = { project_id: "p", sessions: [begun, { ...SESSIONS[1], active: true }], gone: ["open"] };
  await say("sessions_changed", data);
  const titles = (): string[] => [...root.querySelectorAll("li > div > .session-title")].map((one) => one.textContent);
  expect(titles()).toEqual(["begun now", "mine", "at the desk"]);
  expect(row(2).querySelector(".hint")?.textContent).toContain("Open in a terminal");
  vi.useFakeTimers();
  const before = network.wires.length;
  network.wire.drop();
  while (network.wires.length === before) await vi.advanceTimersByTimeAsync(1000);
  vi.useRealTimers();
  network.wire.accept();
  await answer("session_list", { sessions: SESSIONS });
  expect(titles()).toEqual(["mine", "at the desk", "Without a prompt"]);
  await act(() => render(null, root));
  expect(network.wire.asked("session_unfollow").data).toEqual({});
});

/** A record of a session at a position. */
function record(offset: number, type: string, message: object, more: object = {}): object {
  return { offset, timestamp: "2026-01-01T00:00:00Z", type, direction: "claude", message, ...more };
}

const said = (text: string): object => ({ type: "assistant", message: { content: [{ type: "text", text }] } });

test("a session is read and followed, and a large record whole when it is asked for", async () => {
  await press("Read", row(1));
  expect(network.wire.asked("session_history").data).toMatchObject({ session_id: "left", limit: 100 });
  const cut = { size: 5000, cut: ["/message/content/0/text"] };
  const newest = [record(400, "agent_message", said("begins"), cut), record(700, "agent_message", said("newest"))];
  await answer("session_history", { epoch: "e", messages: newest, before: 0, end: 900 });
  expect(root.textContent).toMatch(/Not open in a terminal.*begins.*newest/s);
  const more = { session_id: "left", epoch: "e", messages: [record(900, "agent_message", said("live"))], end: 990 };
  await say("session_lines", { ...more, active: true });
  await vi.waitFor(() => expect(root.textContent).toMatch(/Open in a terminal.*begins.*newest.*live/s));

  await press("Show all (5 KB)");
  expect(network.wire.asked("session_history").data).toMatchObject({ before: 700, limit: 1, large: "whole" });
  await answer("session_history", { messages: [record(400, "agent_message", said("all of it"))], before: 0, end: 700 });
  expect(root.textContent).toMatch(/all of it.*newest.*live/s);
  await press("Close");
  expect(network.wire.asked("session_unfollow").data).toEqual({ session_id: "left" });
});
