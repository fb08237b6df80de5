import { Fragment, type VNode } from "preact";
import { path } from "../../router";
import { isMain, titleOf, type ConversationState } from "../../store/projects";
import { useStore } from "../../store/store";
import { visible } from "../../text/visible";
import { stateOf } from "../projects/state";
import { Navigation } from "./navigation";

/** On a wide screen: the way to every page and every project. */
export function Sidebar(): VNode {
  const { projects } = useStore();
  return (
    <aside class="sidebar" aria-label="Overview">
      <a class="brand" href="/" data-route>
        <img src="/icon.svg" alt="" />
        Pocket Agent
      </a>
      <Navigation label="Main" />
      {projects.list.value.length > 0 && (
        <nav class="sidebar-projects" aria-label="Projects">
          {projects.list.value.map((project) => (
            <Fragment key={project.id}>
              <Line conversation={project} />
              {projects
                .othersOf(project.id)
                .filter(({ archived }) => !archived)
                .map((conversation) => (
                  <Line key={conversation.id} conversation={conversation} />
                ))}
            </Fragment>
          ))}
        </nav>
      )}
    </aside>
  );
}

function Line({ conversation }: { readonly conversation: ConversationState }): VNode {
  const { seen } = useStore();
  const state = stateOf(conversation);
  const to = `/p/${conversation.id}`;
  const name = isMain(conversation) ? conversation.name : titleOf(conversation);
  return (
    <a
      class={isMain(conversation) ? "" : "sidebar-other"}
      href={to}
      data-route
      aria-current={path.value === to ? "page" : undefined}
    >
      <span class={`dot ${state.tone}`} />
      <span class="sidebar-name">{visible(name)}</span>
      {seen.isUnread(conversation) && <span class="badge accent">New</span>}
      {conversation.pending_approvals > 0 && <span class="badge warn">{conversation.pending_approvals}</span>}
      <span class="visually-hidden">{state.name}</span>
    </a>
  );
}
