import type { VNode } from "preact";
import { useState } from "preact/hooks";
import { Check, Clock, Pencil, Trash2, WifiOff, X } from "lucide";
import type { Conversation } from "../../conversation/conversation";
import type { Outgoing } from "../../store/outbox";
import { useStore } from "../../store/store";
import type { QueuedPrompt } from "../../wire/generated";
import { Icon } from "../icon";

/** The prompts that wait: in the server for their turn, and here for the server. */
export function Queue({ conversation }: { readonly conversation: Conversation }): VNode | null {
  const { outbox } = useStore();
  const queue = conversation.queue.value;
  const outgoing = outbox.list.value.filter(({ projectId }) => projectId === conversation.projectId);
  if (queue.length + outgoing.length === 0) return null;
  return (
    <ol class="queue" aria-label="Waiting prompts">
      {queue.map((prompt) => (
        <Queued key={prompt.execution_id} prompt={prompt} projectId={conversation.projectId} />
      ))}
      {outgoing.map((one) => (
        <Unsent key={one.promptId} outgoing={one} />
      ))}
    </ol>
  );
}

function Queued({ prompt, projectId }: { readonly prompt: QueuedPrompt; readonly projectId: string }): VNode {
  const { link, toasts, mayAct } = useStore();
  const [text, setText] = useState<string | null>(null);
  const { execution_id } = prompt;
  const save = async (): Promise<void> => {
    try {
      if (text !== null && text.trim() !== "" && text !== prompt.prompt) {
        await link.request("prompt_edit", { execution_id, prompt: text }, { projectId });
      }
      setText(null);
    } catch (error) {
      toasts.fail(error);
    }
  };
  const withdraw = (): void => {
    link.request("prompt_cancel", { execution_id }, { projectId }).catch((error: unknown) => toasts.fail(error));
  };
  if (text !== null) {
    return (
      <li class="queued editing">
        <textarea
          aria-label="Change the waiting prompt"
          autofocus
          rows={Math.min(6, text.split("\n").length + 1)}
          value={text}
          onInput={(event) => setText(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key === "Escape") setText(null);
          }}
        />
        <button class="button small icon-only" type="button" aria-label="Leave as it was" onClick={() => setText(null)}>
          <Icon node={X} size={18} />
        </button>
        <button class="button primary small icon-only" type="button" aria-label="Save" onClick={() => void save()}>
          <Icon node={Check} size={18} />
        </button>
      </li>
    );
  }
  return (
    <li class="queued">
      <Icon node={Clock} size={16} />
      <span class="queued-text">
        <span class="visually-hidden">Waits at place {prompt.position}: </span>
        {prompt.prompt}
      </span>
      {mayAct.value && (
        <>
          <button
            class="button quiet small icon-only"
            type="button"
            aria-label="Change"
            onClick={() => setText(prompt.prompt)}
          >
            <Icon node={Pencil} size={17} />
          </button>
          <button class="button quiet small icon-only" type="button" aria-label="Withdraw" onClick={withdraw}>
            <Icon node={Trash2} size={17} />
          </button>
        </>
      )}
    </li>
  );
}

/** A prompt that the server does not have yet. */
function Unsent({ outgoing }: { readonly outgoing: Outgoing }): VNode {
  const { outbox, link, drafts } = useStore();
  const { prompt, promptId, projectId, refusal } = outgoing;
  const isOnline = link.status.value.kind === "online";
  const takeBack = (): void => {
    outbox.discard(promptId);
    const draft = drafts.textOf(projectId).value;
    drafts.put(projectId, draft === "" ? prompt : `${prompt}\n\n${draft}`);
  };
  return (
    <li class={refusal === undefined ? "queued unsent" : "queued refused"}>
      <Icon node={WifiOff} size={16} />
      <span class="queued-text">
        {prompt}
        <small>{refusal ?? (isOnline ? "Is being sent" : "Waits for the server, and is sent once")}</small>
      </span>
      <button class="button quiet small" type="button" onClick={takeBack}>
        Take back
      </button>
    </li>
  );
}
