// @vitest-environment happy-dom
import { render, type VNode } from "preact";
import { act } from "preact/test-utils";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Conversation } from "../../src/conversation/conversation";
import { Store, StoreProvider } from "../../src/store/store";
import { formatTime } from "../../src/text/format";
import { Queue } from "../../src/view/conversation/queue";
import { Tasks } from "../../src/view/conversation/tasks";
import type { QueuedPrompt, QueueHoldData } from "../../src/wire/generated";
import { Network, settle } from "../connection/network";
import { projectState } from "../state";

const UNTIL = "2026-01-01T14:05:00Z";
let network: Network;
let store: Store;
let root: HTMLElement;

beforeEach(() => {
  network = new Network();
  store = new Store(network.open);
  store.link.start();
  network.wire.accept();
  root = document.createElement("div");
});

afterEach(() => {
  render(null, root);
  store.link.stop();
});

/** Shows the queue of a project in a state. */
async function show(
  hold: Partial<QueueHoldData> | null,
  prompts: readonly Partial<QueuedPrompt>[],
): Promise<Conversation> {
  const queue_hold = hold === null ? null : { reason: "lost", message: "Why.", since: UNTIL, until: null, ...hold };
  store.projects.replace([projectState({ state: hold === null ? "EXECUTING" : "IDLE", queue_hold } as object)]);
  const conversation = new Conversation(store.link, "p", store.approvals, store.offline);
  const queue = prompts.map((prompt, at) => ({
    execution_id: `x${at}`,
    prompt: `prompt ${at}`,
    position: at,
    ...prompt,
  }));
  conversation.frame({ type: "queue_state", data: { queue } } as never);
  await mount(<Queue conversation={conversation} />);
  return conversation;
}

async function mount(content: VNode): Promise<void> {
  await act(async () => {
    render(<StoreProvider value={store}>{content}</StoreProvider>, root);
    await settle();
  });
}

const buttons = (): string[] =>
  [...root.querySelectorAll("button")].map((one) => one.getAttribute("aria-label") ?? one.textContent.trim());

async function press(name: string): Promise<void> {
  const found = [...root.querySelectorAll("button")].find(
    (one) => (one.getAttribute("aria-label") ?? one.textContent.trim()) === name,
  );
  await act(async () => {
    found?.click();
    await settle();
  });
}

const asked = (type: string): unknown[] => network.wire.sent.filter((one) => one.type === type).map(({ data }) => data);

test("a usage limit says when the queue continues, and can be tried at once", async () => {
  await show({ reason: "usage_limit", until: UNTIL }, [{ status: "waiting" }, {}]);
  expect(root.querySelector('[role="status"]')?.textContent).toBe(`Why. Continues at ${formatTime(UNTIL)}.`);
  expect(buttons().slice(0, 3)).toEqual(["Start now", "Keep", "Drop"]);
  await press("Start now");
  expect(network.wire.asked("queue_resume").conversation_id).toBe("p");
});

test("an interrupted execution is continued or dropped by itself, and cannot be changed", async () => {
  await show({ reason: "lost" }, [{ status: "interrupted" }, {}]);
  expect(buttons()).toEqual(["Continue", "Drop", "Withdraw", "Change", "Withdraw"]);
  await press("Drop");
  expect(asked("prompt_cancel")).toEqual([{ execution_id: "x0" }]);
  await press("Continue");
  expect(asked("queue_resume")).toHaveLength(1);
});

test("a prompt that waits is given to the agent that works", async () => {
  await show(null, [{}]);
  expect(buttons()).toEqual(["Send now", "Change", "Withdraw"]);
  await press("Send now");
  expect(asked("prompt_promote")).toEqual([{ execution_id: "x0" }]);
});

test("what runs in the background is shown with its use, and each of it can be stopped", async () => {
  const started_at = new Date(Date.now() - 3_600_500).toISOString();
  const tasks = [
    { task_id: "a", type: "local_agent", description: "Read all", started_at, tokens: 12_345, last_tool: "Grep" },
    { task_id: "b", type: "local_bash", description: "npm start" },
  ];
  await mount(<Tasks project={store.projects.put(projectState({ tasks }))} />);
  const [agent, command] = [...root.querySelectorAll("li")].map((one) => one.textContent);
  expect(agent).toMatch(/^Read allSubagent · 1:\d\d:\d\d · 12.3K tokens · GrepStop$/);
  expect(command).toBe("npm startCommandStop");
  await press("Stop npm start");
  expect(asked("stop_task")).toEqual([{ task_id: "b" }]);
});

test("a device that may only watch stops and gives nothing", async () => {
  Object.defineProperty(store, "mayAct", { value: { value: false } });
  await show(null, [{}]);
  expect(buttons()).toEqual([]);
  const tasks = [{ task_id: "b", type: "local_bash", description: "npm start" }];
  await mount(<Tasks project={store.projects.put(projectState({ tasks }))} />);
  expect(root.textContent).toBe("npm startCommand");
});

test("the prompts of another hold are dropped together", async () => {
  await show({ reason: "interrupted" }, [{}, {}]);
  expect(buttons().slice(0, 3)).toEqual(["Run", "Keep", "Drop"]);
  await press("Drop");
  expect(asked("prompt_cancel")).toEqual([{ execution_id: "x0" }, { execution_id: "x1" }]);
});

/** Types into the prompt that is being changed. */
async function type(text: string): Promise<void> {
  const field = root.querySelector("textarea");
  await act(async () => {
    if (field !== null) field.value = text;
    field?.dispatchEvent(new Event("input", { bubbles: true }));
    await settle();
  });
}

test("what was typed into a queued prompt is kept when the prompt starts", async () => {
  const conversation = await show(null, [{}, {}]);
  await press("Change");
  await type("a longer text");
  store.drafts.put("p", "and more");
  await act(async () => {
    conversation.frame({ type: "queue_state", data: { queue: [] } } as never);
    await settle();
  });
  expect(store.drafts.textOf("p").value).toBe("a longer text\n\nand more");
  expect(store.toasts.list.value).toHaveLength(1);
});

test("what was typed into a queued prompt is kept when the prompt starts before it is saved", async () => {
  const conversation = await show(null, [{}]);
  await press("Change");
  await type("too late");
  await press("Save");
  await act(async () => {
    conversation.frame({ type: "queue_state", data: { queue: [] } } as never);
    await settle();
  });
  expect(store.drafts.textOf("p").value).toBe("");
  network.wire.refuse("prompt_edit", "PROCESS_NOT_FOUND");
  await settle();
  expect(store.drafts.textOf("p").value).toBe("too late");
});

test("the second tap of a double tap does not reach the prompt that has moved up", async () => {
  const conversation = await show(null, [{}, {}]);
  await press("Withdraw");
  await act(async () => {
    const queue = [{ execution_id: "x1", prompt: "prompt 1", position: 1 }];
    conversation.frame({ type: "queue_state", data: { queue } } as never);
    await settle();
  });
  await press("Withdraw");
  expect(asked("prompt_cancel")).toEqual([{ execution_id: "x0" }]);
});
