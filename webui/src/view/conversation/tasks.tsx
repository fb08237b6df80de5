import type { VNode } from "preact";
import type { ConversationState } from "../../store/projects";
import { useStore } from "../../store/store";
import { formatClock, formatCount } from "../../text/format";
import { visible } from "../../text/visible";
import type { BackgroundTaskData } from "../../wire/generated";
import { useSingleTap } from "../control/attempt";
import { useNow } from "./live";

/** What runs in the background of the agent: subagents and commands. */
export function Tasks({ project: { id, tasks = [] } }: { readonly project: ConversationState }): VNode | null {
  const once = useSingleTap();
  if (tasks.length === 0) return null;
  return (
    <ul class="queue" aria-label="Background tasks">
      {tasks.map((task) => (
        <Task key={task.task_id} task={task} conversationId={id} once={once} />
      ))}
    </ul>
  );
}

interface TaskProps {
  readonly task: BackgroundTaskData;
  readonly conversationId: string;
  readonly once: (action: () => void) => void;
}

function Task({ task, conversationId, once }: TaskProps): VNode {
  const { link, toasts, mayAct } = useStore();
  const now = useNow();
  const { task_id, type, description, started_at = null, tokens = 0, last_tool, summary } = task;
  const name = visible(description || type);
  const facts = [
    type === "local_agent" ? "Subagent" : type === "local_bash" ? "Command" : type,
    started_at === null ? "" : formatClock((now - Date.parse(started_at)) / 1000),
    tokens > 0 ? `${formatCount(tokens)} tokens` : "",
    [summary, last_tool].find(Boolean),
  ];
  const stop = (): void => {
    link.request("stop_task", { task_id }, { conversationId }).catch((error: unknown) => toasts.fail(error));
  };
  return (
    <li class="queued">
      <span class="queued-text">
        <span dir="auto">{name}</span>
        <small>{visible(facts.filter(Boolean).join(" · "))}</small>
      </span>
      {mayAct.value && (
        <button class="button quiet small" type="button" aria-label={`Stop ${name}`} onClick={() => once(stop)}>
          Stop
        </button>
      )}
    </li>
  );
}
