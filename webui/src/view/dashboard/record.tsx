import type { VNode } from "preact";
import { ago, seconds } from "../../dashboard/format";
import type { LastErrorData, ServerOverviewData, SlowExecutionData } from "../../wire/generated";
import { Runbook } from "./runbook";

interface ExecutionsProps {
  readonly overview: ServerOverviewData;
  readonly now: number;
}

/** What runs, and what took longest of late. */
export function Executions({ overview, now }: ExecutionsProps): VNode {
  const { running, slowest } = overview;
  return (
    <section class="card report" aria-labelledby="executions">
      <h2 id="executions">Slow executions</h2>
      {running.length + slowest.length === 0 && <p class="hint">None within a day.</p>}
      <ul class="records">
        {running.map((execution) => (
          <Execution key={execution.execution_id} execution={execution} now={now} />
        ))}
        {slowest.map((execution) => (
          <Execution key={execution.execution_id} execution={execution} now={now} />
        ))}
      </ul>
    </section>
  );
}

function Execution({ execution, now }: { readonly execution: SlowExecutionData; readonly now: number }): VNode {
  const {
    status,
    waiting,
    project,
    project_id: main,
    conversation_id: id = main,
    model,
    waited_ms: waited,
  } = execution;
  const runs = status === "running";
  const since = Date.parse(execution.started_at);
  const took = runs ? Math.max(0, now - since) : execution.duration_ms;
  const notes = [
    model ?? "",
    waited >= 1000 ? `waited ${seconds(waited / 1000)} for approvals` : "",
    runs ? "" : ago(since + took, now),
  ];
  return (
    <li data-execution={execution.execution_id}>
      <span class="took">{seconds(runs ? Math.round(took / 1000) : took / 1000)}</span>
      {project === null ? (
        <span>a deleted project</span>
      ) : (
        <a href={`/p/${id}`} data-route>
          {project}
        </a>
      )}
      <span class={`badge ${tone(status, waiting)}`}>{waiting ? "waits for approval" : status}</span>
      <span class="hint">{notes.filter((note) => note !== "").join(" · ")}</span>
    </li>
  );
}

function tone(status: string, waiting: boolean): string {
  if (waiting) return "warn";
  if (status === "running") return "accent";
  return status === "error" || status === "timeout" ? "danger" : "";
}

interface ErrorsProps {
  readonly errors: readonly LastErrorData[];
  readonly now: number;
}

/** The last errors, each kind once. */
export function Errors({ errors, now }: ErrorsProps): VNode {
  return (
    <section class="card report" aria-labelledby="errors">
      <h2 id="errors">Last errors</h2>
      {errors.length === 0 && <p class="hint">None since the server started.</p>}
      <ul class="records errors">
        {errors.map((error) => (
          <li key={`${error.code} ${error.operation} ${error.message}`} data-error={error.code}>
            <code>{error.code}</code>
            <span class="badge">{error.operation}</span>
            {error.count > 1 && <span class="badge">{error.count} times</span>}
            <span class="hint">{ago(Date.parse(error.at), now)}</span>
            <p>{error.message}</p>
            {error.correlation_id !== null && (
              <span class="hint">
                Request <code>{error.correlation_id}</code>
              </span>
            )}
            <Runbook name={error.runbook} />
          </li>
        ))}
      </ul>
    </section>
  );
}
