import type { ComponentType, VNode } from "preact";
import { useState } from "preact/hooks";
import {
  Archive,
  Cpu,
  Eraser,
  FileClock,
  Gauge,
  History,
  MessageSquarePlus,
  MessagesSquare,
  Pencil,
  ShieldCheck,
  Skull,
  Trash2,
  type IconNode,
} from "lucide";
import { navigate } from "../../router";
import { isMain, titleOf, type ConversationState } from "../../store/projects";
import { useStore, type Store } from "../../store/store";
import { visible } from "../../text/visible";
import { Confirm } from "../control/confirm";
import { Sheet } from "../control/sheet";
import { Icon } from "../icon";
import { BeginConversation } from "./begin";
import { ChooseMode, ChooseModel } from "./choose";
import { ConversationsSheet } from "./conversations";
import { archive, DeleteConversation, Rename } from "./manage";
import { ReportSheet, Rewind } from "./report";
import { SessionsSheet } from "./sessions";
import { modeName, modelName } from "./tuning";

interface MenuProps {
  readonly project: ConversationState;
  readonly onClose: () => void;
}

/** What a line of the menu opens. */
const SHEETS = {
  begin: BeginConversation,
  conversations: ConversationsSheet,
  rename: Rename,
  sessions: SessionsSheet,
  model: ChooseModel,
  mode: ChooseMode,
  report: ReportSheet,
  rewind: Rewind,
  kill: Kill,
  delete: Delete,
} satisfies Record<string, ComponentType<MenuProps>>;

/** The actions on a conversation besides prompts; those on a project are in the menu of the main one. */
export function ProjectMenu({ project, onClose }: MenuProps): VNode {
  const { mayAct } = useStore();
  const [choice, setChoice] = useState<keyof typeof SHEETS>();
  if (choice !== undefined) {
    const Chosen = SHEETS[choice];
    return <Chosen project={project} onClose={onClose} />;
  }
  return (
    <Sheet title={visible(isMain(project) ? project.name : titleOf(project))} onClose={onClose}>
      {mayAct.value ? (
        <Actions project={project} onClose={onClose} onChoose={setChoice} />
      ) : (
        <p>This device may only watch.</p>
      )}
      <p class="hint path">{visible(project.path)}</p>
    </Sheet>
  );
}

interface ActionsProps extends MenuProps {
  readonly onChoose: (choice: keyof typeof SHEETS) => void;
}

function Actions({ project, onClose, onChoose }: ActionsProps): VNode {
  const store = useStore();
  const isRunning = project.state === "EXECUTING";
  const hasTasks = (project.tasks ?? []).length > 0;
  const act = (action: Promise<void>): void => {
    onClose();
    action.catch((error: unknown) => store.toasts.fail(error));
  };
  return (
    <ul class="menu">
      <Line icon={MessageSquarePlus} name="New conversation" onClick={() => onChoose("begin")} />
      {store.projects.othersOf(project.projectId).length > 0 && (
        <Line icon={MessagesSquare} name="Conversations" onClick={() => onChoose("conversations")} />
      )}
      <Line icon={Eraser} name="New session" disabled={isRunning} onClick={() => act(renew(store, project.id))} />
      <Line icon={History} name="Older sessions" onClick={() => onChoose("sessions")} />
      <Line icon={Cpu} name="Model" value={modelName(project.model)} onClick={() => onChoose("model")} />
      <Line
        icon={ShieldCheck}
        name="Permission mode"
        value={modeName(project.permission_mode)}
        onClick={() => onChoose("mode")}
      />
      <Line icon={Gauge} name="Context, MCP servers and limits" onClick={() => onChoose("report")} />
      <Line icon={FileClock} name="Set files back" disabled={isRunning} onClick={() => onChoose("rewind")} />
      {!isMain(project) && (
        <>
          <Line icon={Pencil} name="Rename" onClick={() => onChoose("rename")} />
          <Line
            icon={Archive}
            name={project.archived ? "Take out of the archive" : "Archive"}
            disabled={isRunning || project.queue_depth > 0}
            onClick={() => act(archive(store, project, !project.archived))}
          />
        </>
      )}
      <Line
        icon={Skull}
        name={hasTasks && !isRunning ? "Kill background tasks" : "Kill the execution"}
        danger
        disabled={!isRunning && !hasTasks}
        onClick={() => onChoose("kill")}
      />
      <Line
        icon={Trash2}
        name={isMain(project) ? "Delete the project" : "Delete the conversation"}
        danger
        onClick={() => onChoose("delete")}
      />
    </ul>
  );
}

/** Starts a new session of the CLI with the next prompt. */
async function renew({ link, toasts }: Store, conversationId: string): Promise<void> {
  const { old_session_id } = await link.request("agent_new_session", {}, { conversationId });
  const undo = (session_id: string) => () => {
    link.request("session_resume", { session_id }, { conversationId }).catch((error: unknown) => toasts.fail(error));
  };
  toasts.say(
    "The next prompt starts a new session.",
    old_session_id === null ? undefined : { label: "Undo", run: undo(old_session_id) },
  );
}

interface LineProps {
  readonly icon: IconNode;
  readonly name: string;
  readonly value?: string;
  readonly danger?: boolean;
  readonly disabled?: boolean;
  readonly onClick: () => void;
}

function Line({ icon, name, value, danger = false, disabled = false, onClick }: LineProps): VNode {
  return (
    <li>
      <button class={danger ? "danger" : ""} type="button" disabled={disabled} onClick={onClick}>
        <Icon node={icon} />
        {name}
        {value !== undefined && <span class="value">{value}</span>}
      </button>
    </li>
  );
}

function Kill({ project, onClose }: MenuProps): VNode {
  const { link } = useStore();
  const kill = async (): Promise<void> => {
    // Later it would be another execution that is killed.
    if (link.status.value.kind !== "online") throw new Error("The server is unreachable.");
    await link.request("agent_kill", { hold_queue: project.queue_depth > 0 }, { conversationId: project.id });
  };
  return (
    <Confirm title="Kill the execution?" action="Kill" onConfirm={kill} onClose={onClose}>
      <p>The agent and all of its processes are killed immediately. Interrupting is gentler.</p>
    </Confirm>
  );
}

/** Asks, and deletes a conversation, or with the main one its project. */
function Delete({ project, onClose }: MenuProps): VNode {
  if (!isMain(project)) return <DeleteConversation project={project} onClose={onClose} />;
  return <DeleteProject project={project} onClose={onClose} />;
}

function DeleteProject({ project, onClose }: MenuProps): VNode {
  const { link, projects } = useStore();
  const others = projects.othersOf(project.id).length;
  const forget = async (): Promise<void> => {
    await link.request("project_delete", {}, { conversationId: project.id });
    navigate("/", { replace: true });
  };
  return (
    <Confirm title={`Delete ${visible(project.name)}?`} action="Delete" onConfirm={forget} onClose={onClose}>
      <p>
        {others > 0 ? `Its ${others + 1} conversations are` : "Its conversation is"} deleted from the server. The
        directory and its files are kept:
      </p>
      <p class="path">{visible(project.path)}</p>
    </Confirm>
  );
}
