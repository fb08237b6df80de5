import type { VNode } from "preact";
import { useState } from "preact/hooks";
import { navigate, path } from "../../router";
import { titleOf, type ConversationState } from "../../store/projects";
import { useStore, type Store } from "../../store/store";
import { visible } from "../../text/visible";
import { ServerError } from "../../wire/frame";
import { Problem, useAttempt } from "../control/attempt";
import { Confirm } from "../control/confirm";
import { Sheet } from "../control/sheet";
import { Check, Field, WORKTREE_MS } from "./begin";

interface ManageProps {
  /** A conversation that is not the main one. */
  readonly project: ConversationState;
  readonly onClose: () => void;
}

/** Goes to the main conversation, unless the user has left this one while the server was busy. */
function leave({ id, projectId }: ConversationState): void {
  if (path.peek() === `/p/${id}`) navigate(`/p/${projectId}`, { replace: true });
}

/** Leaves a conversation out of the lists, or takes it back into them. */
export async function archive(store: Store, conversation: ConversationState, archived: boolean): Promise<void> {
  const { link, toasts } = store;
  const { id } = conversation;
  const put = (isIn: boolean): Promise<unknown> =>
    link.request("conversation_archive", { archived: isIn }, { conversationId: id });
  await put(archived);
  const undo = (): void => void put(false).catch((error: unknown) => toasts.fail(error));
  if (!archived) {
    toasts.say("Taken out of the archive.");
    return;
  }
  toasts.say("Archived.", { label: "Undo", run: undo });
  leave(conversation);
}

/** Changes the title of a conversation. */
export function Rename({ project, onClose }: ManageProps): VNode {
  const { link } = useStore();
  const [title, setTitle] = useState(project.title ?? "");
  const { isBusy, problem, start } = useAttempt(async () => {
    const data = { title: title.trim() || null };
    await link.request("conversation_rename", data, { conversationId: project.id });
    onClose();
  });
  return (
    <Sheet
      title="Rename"
      onClose={onClose}
      actions={
        <>
          <button class="button" type="button" onClick={onClose}>
            Cancel
          </button>
          <button class="button primary" type="submit" form="rename" disabled={isBusy}>
            Rename
          </button>
        </>
      }
    >
      <form
        id="rename"
        class="stack"
        onSubmit={(event) => {
          event.preventDefault();
          start();
        }}
      >
        <Field label="Title" value={title} hint="The first prompt, if left empty" onInput={setTitle} />
        <Problem text={problem} />
      </form>
    </Sheet>
  );
}

/** Asks, and deletes a conversation; work that only its worktree has is deleted only when that is confirmed, too. */
export function DeleteConversation({ project, onClose }: ManageProps): VNode {
  const { link, toasts } = useStore();
  const [pending, setPending] = useState("");
  const [discard, setDiscard] = useState(false);
  const forget = async (): Promise<void> => {
    const options = { conversationId: project.id, timeoutMs: WORKTREE_MS };
    try {
      const { kept_branch } = await link.request("conversation_delete", { discard }, options);
      if (kept_branch) toasts.say(`The branch ${visible(kept_branch)} is kept.`);
      leave(project);
    } catch (error) {
      if (error instanceof ServerError && "changes" in error.details) setPending(`${error.message.split(". ", 1)[0]}.`);
      throw error;
    }
  };
  return (
    <Confirm
      key={pending}
      title={`Delete ${visible(titleOf(project))}?`}
      action={pending === "" ? "Delete" : "Delete with this work"}
      disabled={pending !== "" && !discard}
      onConfirm={forget}
      onClose={onClose}
    >
      <p>
        Its log is deleted from the server
        {project.worktree === undefined ? ". Files are kept." : ", and its worktree with all files in it:"}
      </p>
      {project.worktree !== undefined && <p class="path">{visible(project.path)}</p>}
      {pending !== "" && (
        <>
          <p class="problem">{pending}</p>
          <Check checked={discard} onChange={setDiscard}>
            Delete this work for good
          </Check>
        </>
      )}
    </Confirm>
  );
}
