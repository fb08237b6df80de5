import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Approvals } from "../../src/store/approvals";
import type { ApprovalRequestedData } from "../../src/wire/generated";
import type { Frame } from "../../src/wire/frame";

const request = (id: string): ApprovalRequestedData => ({
  approval_id: id,
  tool_name: "Bash",
  input: {},
  title: null,
  description: null,
  suggestions: [],
  execution_id: null,
});

let approvals: Approvals;

beforeEach(() => {
  vi.useFakeTimers();
  approvals = new Approvals();
});

afterEach(() => {
  vi.useRealTimers();
});

function say(type: Frame["type"], data: object, project_id = "p", conversation_id?: string): void {
  approvals.accept({ type, project_id, conversation_id, timestamp: "", data } as Frame);
}

const ids = (): string[] => approvals.waiting.value.map(({ id }) => id);

test("requests of all projects wait, oldest first", () => {
  approvals.replace([{ project_id: "p", approval: request("1") }]);
  say("approval_requested", request("2"), "q");
  say("approval_requested", request("3"));
  expect(ids()).toEqual(["1", "2", "3"]);
  expect(approvals.get("2")?.conversationId).toBe("q");
});

test("a request belongs to its conversation, and goes with it or with its project", () => {
  approvals.replace([
    { project_id: "p", approval: request("1") },
    { project_id: "p", conversation_id: "p.a", approval: request("2") },
  ]);
  say("approval_requested", request("3"), "p", "p.b");
  expect(approvals.list.value.map(({ conversationId }) => conversationId)).toEqual(["p", "p.a", "p.b"]);
  approvals.replaceOf("p", []);
  expect(ids()).toEqual(["2", "3"]);
  say("conversation_deleted", { project_id: "p", conversation_id: "p.a" }, "p", "p.a");
  expect(ids()).toEqual(["3"]);
  say("project_deleted", { project_id: "p" });
  expect(ids()).toEqual([]);
});

test("what somebody else answered is shown for a moment, with who it was", () => {
  say("approval_requested", request("1"));
  say("approval_resolved", { approval_id: "1", behavior: "allow", by: "phone" });
  expect(ids()).toEqual([]);
  expect(approvals.list.value[0]?.outcome).toMatchObject({ behavior: "allow", by: "phone" });
  vi.advanceTimersByTime(5000);
  expect(approvals.list.value).toEqual([]);
});

test("what was answered here goes at once", () => {
  say("approval_requested", request("1"));
  approvals.answering("1");
  say("approval_resolved", { approval_id: "1", behavior: "allow", by: "me" });
  expect(approvals.list.value).toEqual([]);
});

test("an answer that failed leaves it waiting", () => {
  say("approval_requested", request("1"));
  approvals.answering("1");
  approvals.answering("1", { undo: true });
  expect(ids()).toEqual(["1"]);
});

test("a withdrawn request says why", () => {
  say("approval_requested", request("1"));
  say("approval_cancelled", { approval_id: "1", reason: "the execution ended" });
  expect(approvals.list.value[0]?.outcome).toEqual({ behavior: "withdrawn", by: null, message: "the execution ended" });
});

test("a join tells what waits in its project alone", () => {
  say("approval_requested", request("1"), "p");
  say("approval_requested", request("2"), "q");
  approvals.replaceOf("p", [request("3")]);
  expect(ids()).toEqual(["2", "3"]);
});

test("a project that is deleted asks for nothing", () => {
  say("approval_requested", request("1"), "p");
  say("project_deleted", { project_id: "p" });
  expect(ids()).toEqual([]);
});

test("an outcome of what is not known is no news", () => {
  say("approval_resolved", { approval_id: "9", behavior: "allow", by: "x" });
  expect(approvals.list.value).toEqual([]);
});
