import type { VNode } from "preact";
import { useState } from "preact/hooks";
import { ArrowLeft, EllipsisVertical, Users } from "lucide";
import type { StreamState } from "../../connection/stream";
import type { Conversation } from "../../conversation/conversation";
import { useStore } from "../../store/store";
import { visible } from "../../text/visible";
import type { ProjectStateData } from "../../wire/generated";
import { Icon } from "../icon";
import { stateOf } from "../projects/state";
import { ProjectMenu } from "./menu";

const STREAM: Readonly<Record<StreamState, string>> = {
  live: "Live",
  "catching-up": "Catching up…",
  offline: "Offline",
};

interface HeaderProps {
  readonly project: ProjectStateData;
  readonly conversation: Conversation;
}

/** Which project this is, how it is, and whether what is shown is what there is. */
export function Header({ project, conversation }: HeaderProps): VNode {
  const { projects } = useStore();
  const [isOpen, setOpen] = useState(false);
  const stream = conversation.state.value;
  const subscribers = conversation.subscribers.value;
  const state = stateOf(project);
  return (
    <header class="conversation-head">
      <a class="button quiet icon-only back" href="/" data-route aria-label="To the projects">
        <Icon node={ArrowLeft} />
      </a>
      <div class="conversation-title">
        <h1>{visible(project.name)}</h1>
        <p>
          {projects.loaded.value && (
            <>
              <span class={`dot ${state.tone}`} />
              <span>{state.name}</span>
            </>
          )}
          <span class={`stream ${stream}`} role="status">
            {STREAM[stream]}
          </span>
          {project.session_title && <span class="session-name">{visible(project.session_title)}</span>}
        </p>
      </div>
      {subscribers > 1 && (
        <span class="badge" title={`${subscribers} clients follow this project`}>
          <Icon node={Users} size={14} />
          {subscribers}
          <span class="visually-hidden">clients follow this project</span>
        </span>
      )}
      <button class="button quiet icon-only" type="button" aria-label="Project menu" onClick={() => setOpen(true)}>
        <Icon node={EllipsisVertical} />
      </button>
      {isOpen && <ProjectMenu project={project} onClose={() => setOpen(false)} />}
    </header>
  );
}
