import type { VNode } from "preact";
import { useEffect, useState } from "preact/hooks";
import { ConnectionLostError } from "../../connection/socket";
import { isMain, titleOf, type ConversationState } from "../../store/projects";
import { useStore } from "../../store/store";
import { formatAgo, formatFullTime } from "../../text/format";
import { visible } from "../../text/visible";
import { conversationOf, messageOf } from "../../wire/frame";
import type { SessionData, SessionsChangedData } from "../../wire/generated";
import { Problem } from "../control/attempt";
import { Sheet } from "../control/sheet";
import { CopyButton } from "../text/copy";
import { HistorySheet } from "./history";

interface SessionsProps {
  readonly project: ConversationState;
  readonly onClose: () => void;
}

/** The CLI's sessions of a project, to go on with one of them in this conversation. */
export function SessionsSheet({ project: { id: conversationId }, onClose }: SessionsProps): VNode {
  const { link, projects, toasts, mayAct } = useStore();
  const [sessions, setSessions] = useState<readonly SessionData[]>();
  const [problem, setProblem] = useState("");
  const [reading, setReading] = useState<SessionData>();
  useEffect(() => {
    const ends = [
      link.onFrame((frame) => {
        if (frame.type !== "sessions_changed" || conversationOf(frame) !== conversationId) return;
        setSessions((known) => known && changedBy(known, frame.data));
      }),
      link.onOpen((socket) => {
        socket.request("session_list", { watch: true }, conversationId).then(
          (reply) => setSessions(reply.sessions),
          (error: unknown) => {
            if (!(error instanceof ConnectionLostError)) setProblem(messageOf(error)); // else the next one asks again
          },
        );
      }),
    ];
    return () => {
      for (const end of ends) end();
      link.socketNow?.request("session_unfollow", {}, conversationId).catch(() => undefined);
    };
  }, [conversationId]);
  /** The other conversation that continues a session. */
  const holderOf = ({ conversation_id: id }: SessionData): ConversationState | undefined =>
    id === conversationId ? undefined : projects.get(id ?? "");
  const resume = async ({ session_id, title }: SessionData, fork: boolean): Promise<void> => {
    try {
      await link.request("session_resume", { session_id, fork }, { conversationId });
      toasts.say(`The next prompt continues ${fork ? "a copy of " : ""}“${visible(title)}”.`);
      onClose();
    } catch (error) {
      toasts.fail(error);
    }
  };
  if (reading !== undefined) {
    return <HistorySheet conversationId={conversationId} session={reading} onClose={() => setReading(undefined)} />;
  }
  return (
    <Sheet title="Sessions" onClose={onClose}>
      <Problem text={problem} />
      {sessions === undefined && problem === "" && <div class="spinner" role="status" aria-label="Loading" />}
      {sessions?.length === 0 && <p class="hint">No sessions yet. The first prompt starts one.</p>}
      <ul class="sessions">
        {sessions?.map((session) => {
          const holder = holderOf(session);
          return (
            <li key={session.session_id}>
              <div>
                <p class="session-title">{session.title === "" ? "Without a prompt" : visible(session.title)}</p>
                <p class="hint" title={formatFullTime(session.last_active)}>
                  {factsOf(session)}
                </p>
                {holder !== undefined && (
                  <p class="hint">
                    Continued in{" "}
                    <a href={`/p/${holder.id}`} data-route onClick={onClose}>
                      {visible(isMain(holder) ? "Main conversation" : titleOf(holder))}
                    </a>
                  </p>
                )}
                {session.resume_command && (
                  <p class="session-command hint">
                    <code class="session-title">{visible(session.resume_command)}</code>
                    <CopyButton text={() => session.resume_command ?? ""} label="Copy the command for a terminal" />
                  </p>
                )}
              </div>
              {typeof session.size === "number" && (
                <button class="button small" type="button" onClick={() => setReading(session)}>
                  Read
                </button>
              )}
              {mayAct.value && !session.current && !session.active && holder === undefined && (
                <button class="button small" type="button" onClick={() => void resume(session, false)}>
                  Resume
                </button>
              )}
              {mayAct.value && (
                <button
                  class="button small"
                  type="button"
                  title="Continues with a copy"
                  onClick={() => void resume(session, true)}
                >
                  Fork
                </button>
              )}
            </li>
          );
        })}
      </ul>
    </Sheet>
  );
}

/** The sessions after a change, the last used first. */
function changedBy(known: readonly SessionData[], { sessions, gone = [] }: SessionsChangedData): SessionData[] {
  const replaced = new Set([...gone, ...sessions.map(({ session_id }) => session_id)]);
  const kept = known.filter(({ session_id }) => !replaced.has(session_id));
  return [...kept, ...sessions].sort((one, two) => two.last_active.localeCompare(one.last_active));
}

/** What is known of a session besides its title. */
function factsOf({ current, origin, active, turns, turns_estimated, last_active }: SessionData): string {
  const isCounted = typeof turns === "number";
  return [
    current && "This one",
    origin === "terminal" && "Terminal",
    active && "Open in a terminal",
    isCounted && `${turns_estimated ? "about " : ""}${turns} ${turns === 1 ? "turn" : "turns"}`,
    formatAgo(last_active),
  ]
    .filter(Boolean)
    .join(" · ");
}
