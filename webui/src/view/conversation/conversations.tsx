import type { VNode } from "preact";
import { useState } from "preact/hooks";
import type { ConversationState } from "../../store/projects";
import { useStore } from "../../store/store";
import { visible } from "../../text/visible";
import { Sheet } from "../control/sheet";
import { ConversationEntry } from "../projects/entry";
import { BeginConversation, Check } from "./begin";

interface ConversationsProps {
  /** One of the project's conversations. */
  readonly project: ConversationState;
  readonly onClose: () => void;
}

/** All conversations of a project, to go to one of them or begin another. */
export function ConversationsSheet({ project, onClose }: ConversationsProps): VNode {
  const { projects, mayAct } = useStore();
  const [isArchiveShown, setArchiveShown] = useState(false);
  const [isBeginning, setBeginning] = useState(false);
  const main = projects.get(project.projectId);
  const others = projects.othersOf(project.projectId);
  const archived = others.filter((one) => one.archived);
  const shown = [
    ...(main === undefined ? [] : [main]),
    ...others.filter((one) => !one.archived),
    ...(isArchiveShown ? archived : []),
  ];
  if (isBeginning) return <BeginConversation project={project} onClose={onClose} />;
  return (
    <Sheet
      title={`Conversations of ${visible(project.name)}`}
      onClose={onClose}
      actions={
        mayAct.value && (
          <button class="button primary" type="button" onClick={() => setBeginning(true)}>
            New conversation
          </button>
        )
      }
    >
      <ul class="entries">
        {shown.map((conversation) => (
          <li
            key={conversation.id}
            aria-current={conversation.id === project.id ? "true" : undefined}
            onClick={onClose}
          >
            <ConversationEntry conversation={conversation} />
          </li>
        ))}
      </ul>
      {archived.length > 0 && (
        <Check checked={isArchiveShown} onChange={setArchiveShown}>
          Show archived ({archived.length})
        </Check>
      )}
    </Sheet>
  );
}
