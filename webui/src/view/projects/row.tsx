import type { VNode } from "preact";
import { useState } from "preact/hooks";
import { EllipsisVertical } from "lucide";
import { useStore } from "../../store/store";
import { formatAgo, formatFullTime } from "../../text/format";
import { visible } from "../../text/visible";
import type { ProjectStateData } from "../../wire/generated";
import { ProjectMenu } from "../conversation/menu";
import { Icon } from "../icon";
import { stateOf } from "./state";

const TONES = { idle: "", working: "accent", waiting: "warn", failed: "danger" } as const;

/** A project in the list. */
export function ProjectRow({ project }: { readonly project: ProjectStateData }): VNode {
  const { outbox, projects } = useStore();
  const [isOpen, setOpen] = useState(false);
  const state = stateOf(project);
  const unsent = outbox.list.value.filter(({ projectId }) => projectId === project.id).length;
  return (
    <li class="project card">
      <a href={`/p/${project.id}`} data-route>
        <span class="project-name">
          <span class={`dot ${state.tone}`} />
          {visible(project.name)}
        </span>
        <span class="project-path">{visible(project.path)}</span>
        <span class="project-facts">
          {projects.loaded.value && (
            <span class={`badge ${TONES[state.tone]}`}>
              {state.tone === "waiting" ? waitingFor(project.pending_approvals) : state.name}
            </span>
          )}
          {project.queue_depth > 0 && <span class="badge">{project.queue_depth} in the queue</span>}
          {unsent > 0 && <span class="badge warn">{unsent} not sent yet</span>}
          <time class="hint" dateTime={project.last_active} title={formatFullTime(project.last_active)}>
            {formatAgo(project.last_active)}
          </time>
        </span>
      </a>
      <button
        class="button quiet icon-only"
        type="button"
        aria-label={`Menu of ${visible(project.name)}`}
        onClick={() => setOpen(true)}
      >
        <Icon node={EllipsisVertical} />
      </button>
      {isOpen && <ProjectMenu project={project} onClose={() => setOpen(false)} />}
    </li>
  );
}

function waitingFor(approvals: number): string {
  return approvals === 1 ? "Waiting for approval" : `${approvals} approvals`;
}
