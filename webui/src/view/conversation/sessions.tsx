import type { VNode } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { ConversationState } from "../../store/projects";
import { useStore } from "../../store/store";
import { formatAgo, formatFullTime } from "../../text/format";
import { visible } from "../../text/visible";
import type { SessionData } from "../../wire/generated";
import { messageOf } from "../../wire/frame";
import { Problem } from "../control/attempt";
import { Sheet } from "../control/sheet";

interface SessionsProps {
  readonly project: ConversationState;
  readonly onClose: () => void;
}

/** The CLI's sessions of a project, to go on with one of them in this conversation. */
export function SessionsSheet({ project: { id: conversationId }, onClose }: SessionsProps): VNode {
  const { link, toasts } = useStore();
  const [sessions, setSessions] = useState<readonly SessionData[]>();
  const [problem, setProblem] = useState("");
  useEffect(() => {
    link.request("session_list", {}, { conversationId }).then(
      (reply) => setSessions(reply.sessions),
      (error: unknown) => setProblem(messageOf(error)),
    );
  }, [conversationId]);
  const resume = async ({ session_id, title }: SessionData, fork: boolean): Promise<void> => {
    try {
      await link.request("session_resume", { session_id, fork }, { conversationId });
      toasts.say(`The next prompt continues ${fork ? "a copy of " : ""}“${visible(title)}”.`);
      onClose();
    } catch (error) {
      toasts.fail(error);
    }
  };
  return (
    <Sheet title="Sessions" onClose={onClose}>
      <Problem text={problem} />
      {sessions === undefined && problem === "" && <div class="spinner" role="status" aria-label="Loading" />}
      {sessions?.length === 0 && <p class="hint">There is none yet; it begins with the first prompt.</p>}
      <ul class="sessions">
        {sessions?.map((session) => (
          <li key={session.session_id}>
            <div>
              <p class="session-title">{session.title === "" ? "Without a prompt" : visible(session.title)}</p>
              <p class="hint" title={formatFullTime(session.last_active)}>
                {session.current ? "This one · " : ""}
                {formatAgo(session.last_active)}
              </p>
            </div>
            {!session.current && (
              <button class="button small" type="button" onClick={() => void resume(session, false)}>
                Resume
              </button>
            )}
            <button
              class="button small"
              type="button"
              title="Continues with a copy"
              onClick={() => void resume(session, true)}
            >
              Fork
            </button>
          </li>
        ))}
      </ul>
    </Sheet>
  );
}
