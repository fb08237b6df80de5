import type { VNode } from "preact";
import { path } from "../../router";
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
          {projects.list.value.map((project) => {
            const state = stateOf(project);
            const to = `/p/${project.id}`;
            return (
              <a key={project.id} href={to} data-route aria-current={path.value === to ? "page" : undefined}>
                <span class={`dot ${state.tone}`} />
                <span class="sidebar-name">{visible(project.name)}</span>
                {state.tone === "waiting" && <span class="badge warn">{project.pending_approvals}</span>}
                <span class="visually-hidden">{state.name}</span>
              </a>
            );
          })}
        </nav>
      )}
    </aside>
  );
}
