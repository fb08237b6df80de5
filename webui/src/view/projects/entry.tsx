import type { VNode } from "preact";
import { GitBranch } from "lucide";
import { isMain, titleOf, type ConversationState } from "../../store/projects";
import { useStore } from "../../store/store";
import { formatAgo, formatFullTime } from "../../text/format";
import { visible } from "../../text/visible";
import { Icon } from "../icon";
import { stateOf } from "./state";
import "./entry.css";

const TONES = { idle: "", working: "accent", waiting: "warn", failed: "danger" } as const;

interface EntryProps {
  readonly conversation: ConversationState;
}

/** A conversation in a list of those of its project. */
export function ConversationEntry({ conversation }: EntryProps): VNode {
  const name = isMain(conversation) ? "Main conversation" : titleOf(conversation);
  return (
    <a class="entry" href={`/p/${conversation.id}`} data-route>
      <span class="entry-name">
        <span class={`dot ${stateOf(conversation).tone}`} />
        <span class="entry-title">{visible(name)}</span>
      </span>
      <Facts conversation={conversation} isIdleNamed={false} />
    </a>
  );
}

/** What a list says of a conversation besides its name. */
export function Facts({ conversation, isIdleNamed }: EntryProps & { readonly isIdleNamed: boolean }): VNode {
  const { outbox, projects, seen } = useStore();
  const { id, queue_depth, pending_approvals, archived, last_line } = conversation;
  const at = last_line?.at ?? conversation.last_active;
  const state = stateOf(conversation);
  const unsent = outbox.list.value.filter(({ conversationId }) => conversationId === id).length;
  return (
    <span class="entry-facts">
      {projects.loaded.value && (isIdleNamed || state.tone !== "idle") && (
        <span class={`badge ${TONES[state.tone]}`}>
          {pending_approvals > 1 ? `${pending_approvals} approvals` : state.name}
        </span>
      )}
      {seen.isUnread(conversation) && <span class="badge accent">New</span>}
      {archived && <span class="badge">Archived</span>}
      {queue_depth > 0 && <span class="badge">{queue_depth} in the queue</span>}
      {unsent > 0 && <span class="badge warn">{unsent} not sent yet</span>}
      <Branch conversation={conversation} />
      <time class="hint" dateTime={at} title={formatFullTime(at)}>
        {formatAgo(at)}
      </time>
      {last_line !== undefined && (
        <span class="last-line hint" dir="auto">
          {last_line.by === "user" && "Prompt: "}
          {visible(last_line.text)}
        </span>
      )}
    </span>
  );
}

/** The branch of a conversation's git worktree, if it has one. */
export function Branch({ conversation: { worktree } }: EntryProps): VNode | null {
  if (worktree === undefined) return null;
  return (
    <span class="branch" title={worktree.branch}>
      <Icon node={GitBranch} size={14} />
      <span class="visually-hidden">Branch </span>
      <span class="entry-title">{visible(worktree.branch)}</span>
    </span>
  );
}
