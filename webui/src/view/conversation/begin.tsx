import type { ComponentChildren, VNode } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { navigate } from "../../router";
import type { ConversationState } from "../../store/projects";
import { useStore } from "../../store/store";
import { visible } from "../../text/visible";
import { messageOf } from "../../wire/frame";
import type { SessionData } from "../../wire/generated";
import { Problem, useAttempt } from "../control/attempt";
import { Sheet } from "../control/sheet";

/** A checkout may write gigabytes; the server itself gives it ten minutes. */
export const WORKTREE_MS = 660_000;

interface BeginProps {
  /** One of the project's conversations. */
  readonly project: ConversationState;
  readonly onClose: () => void;
}

/** Begins another conversation in a project. */
export function BeginConversation({ project: { projectId, name }, onClose }: BeginProps): VNode {
  const { link, projects } = useStore();
  const [title, setTitle] = useState("");
  const [isInWorktree, setInWorktree] = useState(false);
  const [branch, setBranch] = useState("");
  const [base, setBase] = useState("");
  const [sessionId, setSessionId] = useState("");
  const [isCopy, setCopy] = useState(false);
  const offers = useOffers(projectId);
  const isTaken = projects.conversations.value.some(
    (one) => one.projectId === projectId && one.session_id === sessionId,
  );
  const isActive = offers.sessions.some((one) => one.session_id === sessionId && one.active);
  const mustCopy = isTaken || isActive;
  const isOpen = useRef(true);
  useEffect(
    () => () => {
      isOpen.current = false;
    },
    [],
  );
  const { isBusy, problem, start } = useAttempt(async () => {
    const data = {
      title: title.trim() || null,
      worktree: isInWorktree ? { branch: branch.trim() || null, base: base.trim() || null } : null,
      session_id: sessionId || null,
      fork: isCopy || mustCopy,
    };
    const options = { conversationId: projectId, timeoutMs: WORKTREE_MS };
    const { id } = projects.put(await link.request("conversation_create", data, options));
    if (!isOpen.current) return;
    onClose();
    navigate(`/p/${id}`);
  });
  return (
    <Sheet
      title={`New conversation in ${visible(name)}`}
      onClose={onClose}
      actions={
        <>
          <button class="button" type="button" onClick={onClose}>
            Cancel
          </button>
          <button class="button primary" type="submit" form="begin" disabled={isBusy}>
            Start
          </button>
        </>
      }
    >
      <form
        id="begin"
        class="stack"
        onSubmit={(event) => {
          event.preventDefault();
          start();
        }}
      >
        <Field label="Title" value={title} hint="The first prompt, if left empty" onInput={setTitle} />
        <Check
          checked={isInWorktree}
          disabled={offers.whyNoWorktree !== null}
          about={offers.whyNoWorktree ?? "A directory and a branch of its own; it does not meet other conversations"}
          onChange={setInWorktree}
        >
          In a git worktree
        </Check>
        {isInWorktree && (
          <>
            <Field label="Branch" value={branch} hint="A new one, named after the title" onInput={setBranch} />
            <Field label="Base of a new branch" value={base} hint="The commit of the project" onInput={setBase} />
          </>
        )}
        {offers.sessions.length > 0 && (
          <label class="field">
            <span>Continue</span>
            <select class="select" value={sessionId} onChange={(event) => setSessionId(event.currentTarget.value)}>
              <option value="">A new session</option>
              {offers.sessions.map(({ session_id, title: said }) => (
                <option key={session_id} value={session_id}>
                  {visible(said) || "Without a prompt"}
                </option>
              ))}
            </select>
          </label>
        )}
        {sessionId !== "" && (
          <Check
            checked={isCopy || mustCopy}
            disabled={mustCopy}
            about={
              isActive
                ? "A terminal has this session open"
                : isTaken
                  ? "Another conversation continues this session"
                  : "The session itself stays as it is"
            }
            onChange={setCopy}
          >
            As a copy
          </Check>
        )}
        <Problem text={problem || offers.problem} />
      </form>
    </Sheet>
  );
}

interface Offers {
  /** As long as the server has not said that there can be a worktree, the reason. */
  readonly whyNoWorktree: string | null;
  readonly sessions: readonly SessionData[];
  readonly problem: string;
}

/** What a new conversation of a project can begin with. */
function useOffers(conversationId: string): Offers {
  const { link } = useStore();
  const [offers, setOffers] = useState<Offers>({ whyNoWorktree: "Asking the server…", sessions: [], problem: "" });
  useEffect(() => {
    Promise.all([
      link.request("conversation_list", {}, { conversationId }),
      link.request("session_list", {}, { conversationId }),
    ]).then(
      ([{ worktrees }, { sessions }]) => setOffers({ whyNoWorktree: worktrees, sessions, problem: "" }),
      (error: unknown) => setOffers({ whyNoWorktree: "", sessions: [], problem: messageOf(error) }),
    );
  }, [conversationId]);
  return offers;
}

interface FieldProps {
  readonly label: string;
  readonly value: string;
  readonly hint: string;
  readonly onInput: (value: string) => void;
}

/** A line of text; `hint` is what applies when it is left empty. */
export function Field({ label, value, hint, onInput }: FieldProps): VNode {
  return (
    <label class="field">
      <span>{label}</span>
      <input
        class="input"
        value={value}
        maxLength={200}
        autocomplete="off"
        spellcheck={false}
        placeholder={hint}
        onInput={(event) => onInput(event.currentTarget.value)}
      />
    </label>
  );
}

interface CheckProps {
  readonly checked: boolean;
  readonly disabled?: boolean;
  readonly about?: string;
  readonly onChange: (checked: boolean) => void;
  readonly children: ComponentChildren;
}

/** Something that can be chosen or left. */
export function Check({ checked, disabled = false, about, onChange, children }: CheckProps): VNode {
  return (
    <label class="choice">
      <input
        type="checkbox"
        checked={checked}
        disabled={disabled}
        onChange={(event) => onChange(event.currentTarget.checked)}
      />
      <span>
        {children}
        {about !== undefined && <small class="hint">{about}</small>}
      </span>
    </label>
  );
}
