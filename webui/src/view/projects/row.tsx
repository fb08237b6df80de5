import type { VNode } from "preact";
import { useState } from "preact/hooks";
import { EllipsisVertical } from "lucide";
import type { ConversationState } from "../../store/projects";
import { useStore } from "../../store/store";
import { visible } from "../../text/visible";
import { ConversationsSheet } from "../conversation/conversations";
import { ProjectMenu } from "../conversation/menu";
import { Icon } from "../icon";
import { ConversationEntry, Facts } from "./entry";
import { stateOf } from "./state";

/** The number of conversations that a project shows; the others are in a sheet. */
const SHOWN = 4;

/** A project in the list: the main conversation, and below it the others. */
export function ProjectRow({ project }: { readonly project: ConversationState }): VNode {
  const { projects } = useStore();
  const [open, setOpen] = useState<"menu" | "conversations" | null>(null);
  const others = projects.othersOf(project.id).filter(({ archived }) => !archived);
  const close = (): void => setOpen(null);
  return (
    <li class="project card">
      <a href={`/p/${project.id}`} data-route>
        <span class="project-name">
          <span class={`dot ${stateOf(project).tone}`} />
          {visible(project.name)}
        </span>
        <span class="project-path">{visible(project.path)}</span>
        <Facts conversation={project} isIdleNamed={true} />
      </a>
      <button
        class="button quiet icon-only"
        type="button"
        aria-label={`Menu of ${visible(project.name)}`}
        onClick={() => setOpen("menu")}
      >
        <Icon node={EllipsisVertical} />
      </button>
      {others.length > 0 && (
        <ul class="entries" aria-label={`Conversations of ${visible(project.name)}`}>
          {others.slice(0, SHOWN).map((conversation) => (
            <li key={conversation.id}>
              <ConversationEntry conversation={conversation} />
            </li>
          ))}
          {others.length > SHOWN && (
            <li>
              <button class="button quiet small" type="button" onClick={() => setOpen("conversations")}>
                All {others.length + 1} conversations
              </button>
            </li>
          )}
        </ul>
      )}
      {open === "menu" && <ProjectMenu project={project} onClose={close} />}
      {open === "conversations" && <ConversationsSheet project={project} onClose={close} />}
    </li>
  );
}
