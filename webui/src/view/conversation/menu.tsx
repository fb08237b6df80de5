import type { VNode } from "preact";
import { useState } from "preact/hooks";
import { Cpu, History, MessageSquarePlus, ShieldCheck, Skull, Trash2, type IconNode } from "lucide";
import { navigate } from "../../router";
import { useStore } from "../../store/store";
import { visible } from "../../text/visible";
import type { ProjectStateData } from "../../wire/generated";
import { Confirm } from "../control/confirm";
import { Sheet } from "../control/sheet";
import { Icon } from "../icon";
import { ChooseMode, ChooseModel } from "./choose";
import { SessionsSheet } from "./sessions";
import { modeName, modelName } from "./tuning";

type Choice = "menu" | "sessions" | "model" | "mode" | "kill" | "delete";

interface MenuProps {
  readonly project: ProjectStateData;
  readonly onClose: () => void;
}

/** The actions on a project besides prompts. */
export function ProjectMenu({ project, onClose }: MenuProps): VNode {
  const { link, toasts, mayAct } = useStore();
  const [choice, setChoice] = useState<Choice>("menu");
  const projectId = project.id;
  const isRunning = project.state === "EXECUTING";
  const hasTasks = (project.tasks ?? []).length > 0;
  const renew = async (): Promise<void> => {
    onClose();
    try {
      const { old_session_id } = await link.request("agent_new_session", {}, { projectId });
      const undo = (session_id: string) => () => {
        link.request("session_resume", { session_id }, { projectId }).catch((error: unknown) => toasts.fail(error));
      };
      toasts.say(
        "The next prompt starts a new conversation.",
        old_session_id === null ? undefined : { label: "Undo", run: undo(old_session_id) },
      );
    } catch (error) {
      toasts.fail(error);
    }
  };
  switch (choice) {
    case "sessions":
      return <SessionsSheet projectId={projectId} onClose={onClose} />;
    case "model":
      return <ChooseModel project={project} onClose={onClose} />;
    case "mode":
      return <ChooseMode project={project} onClose={onClose} />;
    case "kill":
      return <Kill project={project} onClose={onClose} />;
    case "delete":
      return <Delete project={project} onClose={onClose} />;
    case "menu":
  }
  if (!mayAct.value) {
    return (
      <Sheet title={visible(project.name)} onClose={onClose}>
        <p>This device may only watch.</p>
        <p class="hint path">{visible(project.path)}</p>
      </Sheet>
    );
  }
  return (
    <Sheet title={visible(project.name)} onClose={onClose}>
      <ul class="menu">
        <Line icon={MessageSquarePlus} name="New conversation" disabled={isRunning} onClick={() => void renew()} />
        <Line icon={History} name="Older conversations" onClick={() => setChoice("sessions")} />
        <Line icon={Cpu} name="Model" value={modelName(project.model)} onClick={() => setChoice("model")} />
        <Line
          icon={ShieldCheck}
          name="Permission mode"
          value={modeName(project.permission_mode)}
          onClick={() => setChoice("mode")}
        />
        <Line
          icon={Skull}
          name={hasTasks && !isRunning ? "Kill background tasks" : "Kill the execution"}
          danger
          disabled={!isRunning && !hasTasks}
          onClick={() => setChoice("kill")}
        />
        <Line icon={Trash2} name="Delete the project" danger onClick={() => setChoice("delete")} />
      </ul>
      <p class="hint path">{visible(project.path)}</p>
    </Sheet>
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
    await link.request("agent_kill", { hold_queue: project.queue_depth > 0 }, { projectId: project.id });
  };
  return (
    <Confirm title="Kill the execution?" action="Kill" onConfirm={kill} onClose={onClose}>
      <p>The agent and all of its processes are killed immediately. Interrupting is gentler.</p>
    </Confirm>
  );
}

/** Asks, and forgets a project. */
export function Delete({ project, onClose }: MenuProps): VNode {
  const { link } = useStore();
  const forget = async (): Promise<void> => {
    await link.request("project_delete", {}, { projectId: project.id });
    navigate("/", { replace: true });
  };
  return (
    <Confirm title={`Delete ${visible(project.name)}?`} action="Delete" onConfirm={forget} onClose={onClose}>
      <p>Its conversation is deleted from the server. The directory and its files are kept:</p>
      <p class="path">{visible(project.path)}</p>
    </Confirm>
  );
}
