import type { ComponentChildren, VNode } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { ConversationState } from "../../store/projects";
import { useStore } from "../../store/store";
import { formatCount, formatTime } from "../../text/format";
import { visible } from "../../text/visible";
import { messageOf, ServerError } from "../../wire/frame";
import type {
  AgentReport,
  AgentReportData,
  McpServerData,
  RewindFilesData,
  UsageWindowData,
} from "../../wire/generated";
import { Problem } from "../control/attempt";
import { Confirm } from "../control/confirm";
import { Sheet } from "../control/sheet";

interface ReportProps {
  readonly project: ConversationState;
  readonly onClose: () => void;
}

/** What the agent's process reports about itself: its context window, its MCP servers, the limits of its account. */
export function ReportSheet({ project: { id }, onClose }: ReportProps): VNode {
  const context = useReport(id, "context");
  const mcp = useReport(id, "mcp");
  const usage = useReport(id, "usage");
  const isAbsent = context.isAbsent && mcp.isAbsent && usage.isAbsent;
  return (
    <Sheet title="Context, MCP servers and limits" onClose={onClose}>
      {isAbsent ? (
        <p class="hint">No agent runs. The next prompt starts one.</p>
      ) : (
        <div class="stack">
          <Part title="Context window" {...context} show={({ context: found }) => found && <Context {...found} />} />
          <Part title="MCP servers" {...mcp} show={({ mcp_servers }) => <Servers servers={mcp_servers ?? []} />} />
          <Part
            title="Usage limits"
            {...usage}
            show={({ usage_windows }) => <Windows windows={usage_windows ?? []} />}
          />
        </div>
      )}
    </Sheet>
  );
}

interface Report {
  readonly data?: AgentReportData;
  readonly problem: string;
  /** Whether there is no process to ask. */
  readonly isAbsent: boolean;
}

function useReport(conversationId: string, report: AgentReport["report"]): Report {
  const { link } = useStore();
  const [found, setFound] = useState<Report>({ problem: "", isAbsent: false });
  useEffect(() => {
    link.request("agent_report", { report }, { conversationId }).then(
      (data) => setFound({ data, problem: "", isAbsent: false }),
      (error: unknown) => {
        const isAbsent = error instanceof ServerError && error.code === "PROCESS_NOT_FOUND";
        setFound({ problem: messageOf(error), isAbsent });
      },
    );
  }, [conversationId]);
  return found;
}

interface PartProps extends Report {
  readonly title: string;
  readonly show: (data: AgentReportData) => ComponentChildren;
}

function Part({ title, data, problem, show }: PartProps): VNode {
  return (
    <section aria-label={title}>
      <h3>{title}</h3>
      {data === undefined && problem === "" && <div class="spinner" role="status" aria-label="Loading" />}
      <Problem text={problem} />
      {data !== undefined && show(data)}
    </section>
  );
}

function Servers({ servers }: { readonly servers: readonly McpServerData[] }): VNode {
  if (servers.length === 0) return <p class="hint">The agent has no MCP servers.</p>;
  return (
    <ul>
      {servers.map(({ name, status, error }) => (
        <li key={name}>
          {visible(name)}: {visible(status)}
          {error !== null && <p class="hint">{visible(error)}</p>}
        </li>
      ))}
    </ul>
  );
}

function Windows({ windows }: { readonly windows: readonly UsageWindowData[] }): VNode {
  if (windows.length === 0) return <p class="hint">The API has reported no usage limits.</p>;
  return (
    <ul>
      {windows.map(({ window, utilization, resets_at }) => (
        <li key={window}>
          {visible(window.replaceAll("_", " "))}: {Math.round(utilization * 100)} % used, reset at{" "}
          {formatTime(resets_at)}
        </li>
      ))}
    </ul>
  );
}

function Context({ model, total_tokens, max_tokens, categories }: NonNullable<AgentReportData["context"]>): VNode {
  const share = max_tokens > 0 ? ` (${Math.round((total_tokens / max_tokens) * 100)} %)` : "";
  return (
    <>
      <p>
        {formatCount(total_tokens)} of {formatCount(max_tokens)} tokens{share}, {visible(model)}
      </p>
      <ul>
        {categories.map(({ name, tokens }) => (
          <li key={name}>
            {visible(name)}: {formatCount(tokens)}
          </li>
        ))}
      </ul>
    </>
  );
}

/** Executions that have not run are not older than this many that have. */
const RECENT = 20;

/** Asks, and sets the files back to their state before the last prompt. */
export function Rewind({ project: { id: conversationId }, onClose }: ReportProps): VNode {
  const { link, toasts } = useStore();
  const [found, setFound] = useState<RewindFilesData>();
  const [problem, setProblem] = useState("");
  const rewind = (execution_id: string, dry_run: boolean): Promise<RewindFilesData> =>
    link.request("rewind_files", { execution_id, dry_run }, { conversationId });
  const look = async (): Promise<void> => {
    const { executions } = await link.request("execution_list", { limit: RECENT }, { conversationId });
    const last = executions.find(({ started_at, status }) => started_at !== null && status !== "cancelled");
    if (last === undefined) throw new Error("No prompt has run yet.");
    const reply = await rewind(last.execution_id, true);
    if (!reply.can_rewind) throw new Error(`The files cannot be set back: ${reply.error ?? "no reason was given"}`);
    setFound(reply);
  };
  useEffect(() => {
    look().catch((error: unknown) => setProblem(messageOf(error)));
  }, [conversationId]);
  const confirm = async (): Promise<void> => {
    const reply = await rewind(found?.execution_id ?? "", false);
    if (!reply.can_rewind) throw new Error(`The files cannot be set back: ${reply.error ?? "no reason was given"}`);
    toasts.say("The files are as they were before the last prompt.");
  };
  const files = found?.files ?? [];
  return (
    <Confirm
      title="Set files back?"
      action="Set back"
      disabled={files.length === 0}
      onConfirm={confirm}
      onClose={onClose}
    >
      <p>
        Undoes what the agent&rsquo;s file tools have changed since the last prompt. Commands, and changes of others,
        are not undone.
      </p>
      <Problem text={visible(problem)} />
      {found === undefined && problem === "" && <div class="spinner" role="status" aria-label="Loading" />}
      {found !== undefined && files.length === 0 && <p class="hint">No file has changed.</p>}
      {files.length > 0 && (
        <>
          <ul>
            {files.map((file) => (
              <li key={file} class="path">
                {visible(file)}
              </li>
            ))}
          </ul>
          <p class="hint">
            {found?.insertions} lines added, {found?.deletions} removed
          </p>
        </>
      )}
    </Confirm>
  );
}
