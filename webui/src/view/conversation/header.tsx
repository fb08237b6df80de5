import type { VNode } from "preact";
import { useState } from "preact/hooks";
import { ArrowLeft, ChevronDown, EllipsisVertical, Users } from "lucide";
import type { StreamState } from "../../connection/stream";
import type { Conversation } from "../../conversation/conversation";
import { isMain, titleOf, type ConversationState } from "../../store/projects";
import { useStore } from "../../store/store";
import { visible } from "../../text/visible";
import { Icon } from "../icon";
import { Branch } from "../projects/entry";
import { stateOf } from "../projects/state";
import { ConversationsSheet } from "./conversations";
import { ProjectMenu } from "./menu";

const STREAM: Readonly<Record<StreamState, string>> = {
  live: "Live",
  "catching-up": "Catching up…",
  offline: "Offline",
};

interface HeaderProps {
  readonly project: ConversationState;
  readonly conversation: Conversation;
}

/** Which conversation this is, how it is, and whether what is shown is what there is. */
export function Header({ project, conversation }: HeaderProps): VNode {
  const { projects } = useStore();
  const [open, setOpen] = useState<"menu" | "conversations" | null>(null);
  const stream = conversation.state.value;
  const subscribers = conversation.subscribers.value;
  const state = stateOf(project);
  const isAlone = isMain(project) && projects.othersOf(project.id).length === 0;
  const close = (): void => setOpen(null);
  return (
    <header class="conversation-head">
      <a class="button quiet icon-only back" href="/" data-route aria-label="To the projects">
        <Icon node={ArrowLeft} />
      </a>
      <div class="conversation-title">
        <h1>{visible(isMain(project) ? project.name : titleOf(project))}</h1>
        <p>
          {projects.loaded.value && (
            <>
              <span class={`dot ${state.tone}`} />
              <span class="entry-title">{state.name}</span>
            </>
          )}
          <span class={`stream ${stream}`} role="status">
            {STREAM[stream]}
          </span>
          <Branch conversation={project} />
          {!isMain(project) && <span class="session-name">{visible(project.name)}</span>}
          {isMain(project) && project.session_title && (
            <span class="session-name">{visible(project.session_title)}</span>
          )}
        </p>
      </div>
      {subscribers > 1 && (
        <span class="badge" title={`${subscribers} clients follow this project`}>
          <Icon node={Users} size={14} />
          {subscribers}
          <span class="visually-hidden">clients follow this project</span>
        </span>
      )}
      {!isAlone && (
        <button
          class="button quiet icon-only"
          type="button"
          aria-label="Conversations"
          data-action="conversations"
          onClick={() => setOpen("conversations")}
        >
          <Icon node={ChevronDown} />
        </button>
      )}
      <button
        class="button quiet icon-only"
        type="button"
        aria-label={isMain(project) ? "Project menu" : "Conversation menu"}
        onClick={() => setOpen("menu")}
      >
        <Icon node={EllipsisVertical} />
      </button>
      {open === "menu" && <ProjectMenu project={project} onClose={close} />}
      {open === "conversations" && <ConversationsSheet project={project} onClose={close} />}
    </header>
  );
}
