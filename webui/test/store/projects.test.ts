// @vitest-environment happy-dom
import { beforeEach, expect, test } from "vitest";
import { nameOf, Projects, titleOf } from "../../src/store/projects";
import { Seen } from "../../src/store/seen";
import type { Frame } from "../../src/wire/frame";
import type { ProjectStateData } from "../../src/wire/generated";
import { projectState } from "../state";

/** The state of a conversation; `at` is the hour of its last activity. */
function state(id: string, at: number, more: Partial<ProjectStateData> = {}): ProjectStateData {
  const [project = "", suffix] = id.split(".");
  const other = suffix === undefined ? {} : { conversation_id: id };
  const last_active = `2026-01-01T${String(at).padStart(2, "0")}:00:00.000Z`;
  return projectState({ id: project, name: project, last_active, ...other, ...more });
}

const ids = (list: readonly { readonly id: string }[]): string[] => list.map(({ id }) => id);
const frame = (type: string, data: object): Frame => ({ type, data, timestamp: "" }) as Frame;

let projects: Projects;

beforeEach(() => {
  localStorage.clear();
  projects = new Projects();
  projects.replace([state("p", 1), state("q", 2), state("p.a", 3), state("p.b", 4), state("q.a", 1)]);
});

test("a project has the place of its conversation that was active last", () => {
  expect(ids(projects.list.value)).toEqual(["p", "q"]);
});

test("of a project's other conversations those that wait come first", () => {
  expect(ids(projects.othersOf("p"))).toEqual(["p.b", "p.a"]);
  projects.put(state("p.a", 3, { pending_approvals: 2 }));
  expect(ids(projects.othersOf("p"))).toEqual(["p.a", "p.b"]);
  const hold = { reason: "lost", message: "", since: "", until: null } as const;
  projects.put(state("p.a", 3, { queue_hold: { ...hold, until: "2026-01-02T00:00:00Z" } }));
  expect(ids(projects.othersOf("p"))).toEqual(["p.b", "p.a"]);
  projects.put(state("p.a", 3, { queue_hold: hold }));
  expect(ids(projects.othersOf("p"))).toEqual(["p.a", "p.b"]);
});

test("a state is that of its own conversation alone", () => {
  projects.accept(frame("project_state", state("p.a", 5, { name: "changed" })));
  expect(["p", "p.a"].map((id) => projects.get(id)?.name)).toEqual(["p", "changed"]);
});

test("a conversation is deleted by itself, or with its project", () => {
  projects.accept(frame("conversation_deleted", { project_id: "p", conversation_id: "p.a" }));
  expect(ids(projects.conversations.value).toSorted()).toEqual(["p", "p.b", "q", "q.a"]);
  projects.accept(frame("project_deleted", { project_id: "p" }));
  expect(ids(projects.conversations.value).toSorted()).toEqual(["q", "q.a"]);
});

test("what was stored is the same when it is read again", () => {
  const stored = [...projects.conversations.value];
  const again = new Projects();
  again.restore(stored, "");
  expect([...again.conversations.value]).toEqual(stored);
});

test.each([
  [{ title: "Chosen", session_title: "said first" }, "Chosen"],
  [{ session_title: "said first" }, "said first"],
  [{ session_title: "" }, "New conversation"],
  [{ session_title: null }, "New conversation"],
])("the title of %j", (more, title) => {
  const other = projects.put(state("p.a", 1, more));
  expect([titleOf(other), nameOf(other)]).toEqual([title, `p / ${title}`]);
  expect(nameOf(projects.put(state("p", 1, more)))).toBe("p");
});

test("entries that come later are new until they are seen, also after a reload", () => {
  const seen = new Seen();
  const one = projects.put(state("p.a", 1, { offset: 5 }));
  seen.follow([one]);
  expect(seen.isUnread(one)).toBe(false);
  const later = { ...one, offset: 7 };
  seen.follow([later]);
  expect([seen.isUnread(later), new Seen().isUnread(later)]).toEqual([true, true]);
  seen.mark(later);
  expect([seen.isUnread(later), new Seen().isUnread(later)]).toEqual([false, false]);
});

test("a log that was put back to an older state has nothing new, and what is gone is forgotten", () => {
  const seen = new Seen();
  const one = projects.put(state("p.a", 1, { offset: 5 }));
  seen.follow([one]);
  seen.follow([{ ...one, offset: 2 }]);
  expect(seen.isUnread({ ...one, offset: 3 })).toBe(true);
  seen.follow([]);
  expect(localStorage.getItem("seen")).toBe("{}");
});
