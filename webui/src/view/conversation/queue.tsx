import type { VNode } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { ArrowUp, Check, CircleAlert, Clock, Pencil, Trash2, WifiOff, X } from "lucide";
import type { Conversation } from "../../conversation/conversation";
import type { Outgoing } from "../../store/outbox";
import { useStore } from "../../store/store";
import type { QueuedPrompt, QueueHoldData } from "../../wire/generated";
import { untilText } from "../../text/format";
import { visible } from "../../text/visible";
import { Icon } from "../icon";
import { useSingleTap } from "../control/attempt";
import { ReviewSettings } from "../projects/review";

/** The prompts that wait: in the server for their turn, and here for the server. */
export function Queue({ conversation }: { readonly conversation: Conversation }): VNode | null {
  const { outbox, projects } = useStore();
  const once = useSingleTap();
  const queue = conversation.queue.value;
  const outgoing = outbox.list.value.filter(({ conversationId }) => conversationId === conversation.id);
  if (queue.length + outgoing.length === 0) return null;
  const hold = projects.get(conversation.id)?.queue_hold ?? null;
  return (
    <>
      {hold !== null && <Hold key={hold.since} hold={hold} queue={queue} conversationId={conversation.id} />}
      <ol class="queue" aria-label="Queued prompts">
        {queue.map((prompt) => (
          <Queued key={prompt.execution_id} prompt={prompt} conversation={conversation} once={once} />
        ))}
        {outgoing.map((one) => (
          <Unsent key={one.promptId} outgoing={one} />
        ))}
      </ol>
    </>
  );
}

interface HoldProps {
  readonly hold: QueueHoldData;
  readonly queue: readonly QueuedPrompt[];
  readonly conversationId: string;
}

/** Why the prompts that wait do not run, and what may become of them. */
function Hold({ hold, queue, conversationId }: HoldProps): VNode {
  const { link, toasts, mayAct, mayOwn, projects } = useStore();
  const [isKept, setKept] = useState(false);
  const [isReviewing, setReviewing] = useState(false);
  const isTrust = hold.reason === "trust";
  const isLost = hold.reason === "lost";
  const project = projects.get(conversationId);
  const fail = (error: unknown): void => toasts.fail(error);
  const run = (): void => {
    link.request("queue_resume", {}, { conversationId }).catch(fail);
  };
  const drop = (): void => {
    for (const { execution_id } of isLost ? queue.filter(isPaused) : queue)
      link.request("prompt_cancel", { execution_id }, { conversationId }).catch(fail);
  };
  return (
    <div class="queue-hold" role="group" aria-label="The queue is on hold">
      <p role="status">
        {isKept ? "The queue is on hold." : visible(hold.message)} <b>{untilText(hold.until)}</b>
      </p>
      {mayAct.value && (
        <div class="row">
          {!isTrust && (
            <button class="button small" type="button" onClick={run}>
              {isLost ? "Continue" : hold.until ? "Start now" : "Run"}
            </button>
          )}
          {isTrust && mayOwn.value && (
            <button class="button small" type="button" onClick={() => setReviewing(true)}>
              Review
            </button>
          )}
          {!isKept && !isLost && (
            <button class="button small" type="button" onClick={() => setKept(true)}>
              Keep
            </button>
          )}
          <button class="button small" type="button" onClick={drop}>
            Drop
          </button>
        </div>
      )}
      {isReviewing && project !== undefined && <ReviewSettings project={project} onClose={() => setReviewing(false)} />}
    </div>
  );
}

/** Whether a prompt has run and is to continue; it can only be dropped. */
function isPaused({ status }: QueuedPrompt): boolean {
  return status === "waiting" || status === "interrupted";
}

interface QueuedProps {
  readonly prompt: QueuedPrompt;
  readonly conversation: Conversation;
  readonly once: (action: () => void) => void;
}

function Queued({ prompt, conversation, once }: QueuedProps): VNode {
  const { link, toasts, mayAct, projects, drafts } = useStore();
  const conversationId = conversation.id;
  const [text, setText] = useState<string | null>(null);
  const isRunning = projects.get(conversationId)?.state === "EXECUTING" && !isPaused(prompt);
  const { execution_id } = prompt;
  const typed = useRef(text);
  typed.current = text;
  const isSaving = useRef(false);
  /** Where the prompt does not wait any more, puts what was typed into the field. */
  const rescue = (): void => {
    const isWaiting = conversation.queue.peek().some((one) => one.execution_id === execution_id);
    if (isWaiting || isSaving.current || typed.current === null || typed.current === prompt.prompt) return;
    drafts.prepend(conversationId, typed.current);
    toasts.say("The prompt does not wait any more. Your change of it is in the field.");
  };
  useEffect(() => rescue, []);
  const save = async (): Promise<void> => {
    isSaving.current = true;
    try {
      if (text !== null && text.trim() !== "" && text !== prompt.prompt) {
        await link.request("prompt_edit", { execution_id, prompt: text }, { conversationId });
      }
      setText(null);
    } catch (error) {
      toasts.fail(error);
      isSaving.current = false;
      rescue();
    }
    isSaving.current = false;
  };
  const ask = (kind: "prompt_cancel" | "prompt_promote"): void => {
    link.request(kind, { execution_id }, { conversationId }).catch((error: unknown) => toasts.fail(error));
  };
  const promote = (): void => once(() => ask("prompt_promote"));
  const withdraw = (): void => once(() => ask("prompt_cancel"));
  if (text !== null) {
    return (
      <li class="queued editing">
        <textarea
          aria-label="Edit the queued prompt"
          autofocus
          rows={Math.min(6, text.split("\n").length + 1)}
          value={text}
          onInput={(event) => setText(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key === "Escape") setText(null);
          }}
        />
        <button class="button small icon-only" type="button" aria-label="Cancel the edit" onClick={() => setText(null)}>
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
        <span class="visually-hidden">Queue position {prompt.position}: </span>
        <span dir="auto">{prompt.prompt}</span>
        {isPaused(prompt) && <small>Paused</small>}
      </span>
      {mayAct.value && (
        <>
          {isRunning && (
            <button class="button quiet small icon-only" type="button" aria-label="Send now" onClick={promote}>
              <Icon node={ArrowUp} size={17} />
            </button>
          )}
          {!isPaused(prompt) && (
            <button
              class="button quiet small icon-only"
              type="button"
              aria-label="Change"
              onClick={() => setText(prompt.prompt)}
            >
              <Icon node={Pencil} size={17} />
            </button>
          )}
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
  const { prompt, promptId, conversationId, refusal } = outgoing;
  const isOnline = link.status.value.kind === "online";
  const takeBack = (): void => {
    outbox.discard(promptId);
    drafts.prepend(conversationId, prompt);
  };
  return (
    <li class={refusal === undefined ? "queued unsent" : "queued refused"}>
      <Icon node={refusal === undefined ? (isOnline ? Clock : WifiOff) : CircleAlert} size={16} />
      <span class="queued-text">
        <span dir="auto">{prompt}</span>
        <small>{refusal ?? (isOnline ? "Sending" : "Waits for the server, and is sent once")}</small>
      </span>
      {refusal !== undefined && (
        <button class="button small" type="button" onClick={() => outbox.retry(promptId)}>
          Try again
        </button>
      )}
      <button class="button quiet small" type="button" onClick={takeBack}>
        Take back
      </button>
    </li>
  );
}
