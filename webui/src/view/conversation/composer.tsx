import type { VNode } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { ArrowUp, Cpu, ShieldCheck, Skull, Square } from "lucide";
import type { Outgoing } from "../../store/outbox";
import { useStore } from "../../store/store";
import type { ConversationState } from "../../store/projects";
import { Icon } from "../icon";
import { ChooseMode, ChooseModel } from "./choose";
import { modeName, modelName } from "./tuning";

/** An interruption that has not helped by then may need more than asking. */
const PATIENCE_MS = 5000;

/** Where prompts are written. */
export function Composer({ project }: { readonly project: ConversationState }): VNode {
  const store = useStore();
  const { drafts, outbox, link, preferences, conversation } = store;
  const text = drafts.textOf(project.id).value;
  const [choosing, setChoosing] = useState<"model" | "mode" | null>(null);
  const field = useRef<HTMLTextAreaElement>(null);
  const isRunning = project.state === "EXECUTING";
  const isOnline = link.status.value.kind === "online";
  const isEmpty = text.trim() === "";

  // As high as its text; the style sheet says how high at most.
  useLayoutEffect(() => {
    const element = field.current;
    if (element === null) return;
    element.style.height = "auto";
    element.style.height = `${element.scrollHeight + 2}px`;
  }, [text]);

  const send = (when?: Outgoing["when"]): void => {
    if (isEmpty) return;
    outbox.send(project.id, text, when);
    conversation.value?.jump?.();
    drafts.put(project.id, "");
    field.current?.focus();
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.key !== "Enter" || event.isComposing) return;
    const isWanted = event.metaKey || event.ctrlKey || (preferences.enterSends.value && !event.shiftKey && !isTouch());
    if (!isWanted) return;
    event.preventDefault();
    send();
  };
  return (
    <div class="composer">
      <textarea
        ref={field}
        class="composer-text"
        data-focus="main"
        aria-label="Prompt"
        rows={1}
        dir="auto"
        placeholder={placeholder(isOnline, isRunning)}
        value={text}
        enterkeyhint={isTouch() ? "enter" : "send"}
        onInput={(event) => drafts.put(project.id, event.currentTarget.value)}
        onKeyDown={onKeyDown}
      />
      <div class="composer-bar">
        <button class="chip" type="button" onClick={() => setChoosing("model")}>
          <Icon node={Cpu} size={15} />
          <span class="visually-hidden">Model: </span>
          <span class="chip-text">{modelName(project.model)}</span>
        </button>
        <button class="chip" type="button" onClick={() => setChoosing("mode")}>
          <Icon node={ShieldCheck} size={15} />
          <span class="visually-hidden">Permission mode: </span>
          <span class="chip-text">{modeName(project.permission_mode)}</span>
        </button>
        <Actions project={project} isEmpty={isEmpty} onSend={send} />
      </div>
      {choosing === "model" && <ChooseModel project={project} onClose={() => setChoosing(null)} />}
      {choosing === "mode" && <ChooseMode project={project} onClose={() => setChoosing(null)} />}
    </div>
  );
}

interface ActionsProps {
  readonly project: ConversationState;
  readonly isEmpty: boolean;
  readonly onSend: (when?: Outgoing["when"]) => void;
}

/** What can be done with the prompt in the field, and with the agent that works. */
function Actions({ project, isEmpty, onSend }: ActionsProps): VNode {
  const { link, conversation } = useStore();
  const isRunning = project.state === "EXECUTING";
  const tasks = project.tasks ?? [];
  const isOnline = link.status.value.kind === "online";
  return (
    <span class="composer-actions">
      {(isRunning || tasks.length > 0) && (
        <Stop key={isRunning ? (conversation.value?.executionId.value ?? "") : "tasks"} project={project} />
      )}
      {isRunning && !isEmpty && (
        <button class="button" type="button" aria-label="Send now" onClick={() => onSend("now")}>
          Now
        </button>
      )}
      {/* One that is sent later would interrupt another execution. */}
      {isRunning && !isEmpty && isOnline && (
        <button class="button" type="button" aria-label="Send instead" onClick={() => onSend("interrupt")}>
          Instead
        </button>
      )}
      <button
        class="button primary icon-only"
        type="button"
        aria-label={isRunning ? "Add to the queue" : "Send"}
        disabled={isEmpty}
        onClick={() => onSend()}
      >
        <Icon node={ArrowUp} />
      </button>
    </span>
  );
}

/**
 * Interrupts the agent; one that does not listen can be killed. It names the execution, so that a press that reaches
 * the server late stops no later prompt, and holds the prompts that wait until it is said what becomes of them.
 */
function Stop({ project }: { readonly project: ConversationState }): VNode {
  const { link, toasts, conversation } = useStore();
  const [state, setState] = useState<"works" | "interrupting" | "stubborn">("works");
  useEffect(() => {
    if (state !== "interrupting") return undefined;
    const timer = setTimeout(() => setState("stubborn"), PATIENCE_MS);
    return () => clearTimeout(timer);
  }, [state]);
  const ask = (kind: "agent_interrupt" | "agent_kill"): void => {
    const execution_id = conversation.value?.executionId.value ?? null;
    const data = { execution_id, hold_queue: project.queue_depth > 0 };
    link.request(kind, data, { conversationId: project.id }).catch((error: unknown) => {
      setState("works");
      toasts.fail(error);
    });
  };
  const interrupt = (): void => {
    setState("interrupting");
    ask("agent_interrupt");
  };
  if (state === "stubborn") {
    return (
      <button class="button danger" type="button" onClick={() => ask("agent_kill")}>
        <Icon node={Skull} size={18} />
        Kill
      </button>
    );
  }
  return (
    <button class="button" type="button" data-action="interrupt" disabled={state !== "works"} onClick={interrupt}>
      <Icon node={Square} size={16} />
      {state === "works" ? "Stop" : "Stopping…"}
    </button>
  );
}

/** Whether the Enter key of this screen is for new lines. */
function isTouch(): boolean {
  return matchMedia("(pointer: coarse)").matches;
}

function placeholder(isOnline: boolean, isRunning: boolean): string {
  if (!isOnline) return "Offline; prompts wait to be sent";
  return isRunning ? "Next prompt, will be queued" : "What should the agent do?";
}
