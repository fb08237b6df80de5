import { effect, untracked } from "@preact/signals";
import { record } from "../../conversation/reading";
import { nameOf as labelOf } from "../../store/projects";
import type { Store } from "../../store/store";
import { titleOf } from "../approval/title";
import { subjectOf } from "../tool/tool";
import { visible } from "../../text/visible";
import { notify } from "./notification";

/** A notification for a user who is not watching the page. */
export interface News {
  readonly title: string;
  readonly body: string;
  readonly isUrgent: boolean;
  /** The page that it is about. */
  readonly path: string;
}

const BASE_TITLE = /^(?:\(\d+\) )?/;

/** Watches for approvals that are wanted and executions that end; @returns how to stop that. */
export function listenForNews(store: Store, tell: (news: News) => void): () => void {
  const spread = (news: News): void => {
    tell(news);
    if (document.hidden && store.preferences.notifications.value) void notify(news);
  };
  const ends = [watchApprovals(store, spread), watchProjects(store, spread), badge(store)];
  return () => {
    for (const end of ends) end();
  };
}

function watchApprovals(store: Store, tell: (news: News) => void): () => void {
  let known = new Set<string>();
  return effect(() => {
    const waiting = store.approvals.waiting.value;
    untracked(() => {
      for (const approval of waiting.filter(({ id }) => !known.has(id))) {
        const { conversationId, request } = approval;
        const subject = subjectOf(request.tool_name, record(request.input));
        const title = `${nameOf(store, conversationId)}: ${titleOf(approval)}`;
        tell({ title, body: subject.slice(0, 300), isUrgent: true, path: `/p/${conversationId}` });
        if (!document.hidden) vibrate();
      }
    });
    known = new Set(waiting.map(({ id }) => id));
  });
}

function watchProjects(store: Store, tell: (news: News) => void): () => void {
  let before = new Map<string, string>();
  return effect(() => {
    const projects = store.projects.conversations.value;
    untracked(() => {
      for (const { id, state } of projects) {
        if (before.get(id) !== "EXECUTING" || state === "EXECUTING") continue;
        const name = nameOf(store, id);
        const title = state === "ERROR" ? `${name}: failed` : `${name}: done`;
        const body = state === "ERROR" ? "The execution ended with an error." : "The agent has finished.";
        tell({ title, body, isUrgent: false, path: `/p/${id}` });
      }
    });
    before = new Map(projects.map(({ id, state }) => [id, state]));
  });
}

/** How many approvals wait, in the title and on the icon. */
function badge(store: Store): () => void {
  const show = (count: number): void => {
    const prefix = count > 0 ? `(${count}) ` : "";
    const title = document.title.replace(BASE_TITLE, prefix);
    if (title !== document.title) document.title = title;
    if ("setAppBadge" in navigator) navigator.setAppBadge(count).catch(() => undefined);
  };
  // Pages set the title as well, so it is looked after.
  const observer = new MutationObserver(() => show(store.approvals.waiting.peek().length));
  const title = document.querySelector("title");
  if (title !== null) observer.observe(title, { childList: true });
  const end = effect(() => show(store.approvals.waiting.value.length));
  return () => {
    observer.disconnect();
    end();
  };
}

function vibrate(): void {
  if ("vibrate" in navigator && navigator.userActivation.hasBeenActive) navigator.vibrate([60, 40, 60]);
}

function nameOf(store: Store, conversationId: string): string {
  const conversation = store.projects.get(conversationId);
  return conversation === undefined ? "A project" : visible(labelOf(conversation));
}
