import type { VNode } from "preact";
import { seconds, shown } from "../../dashboard/format";
import type { ServerOverviewData, ServerStatsData } from "../../wire/generated";

interface TilesProps {
  readonly stats: ServerStatsData;
  readonly overview: ServerOverviewData | null;
}

/** The current metrics. */
export function Tiles({ stats, overview }: TilesProps): VNode {
  const usage = Object.fromEntries((overview?.limits ?? []).map(({ name, usage: used }) => [name, used]));
  const waiting = overview?.running.filter((execution) => execution.waiting).length ?? 0;
  const { executions } = stats;
  const ended = executions.success + executions.failed;
  return (
    <dl class="tiles">
      <Tile name="connections" label="Connections" value={String(stats.connections.active)} />
      <Tile
        name="running"
        label="Running"
        value={String(executions.active)}
        note={waiting > 0 ? `${waiting} waiting for approval` : ""}
      />
      <Tile name="executions" label="Executions" value={String(executions.total)} note="since the start" />
      <Tile
        name="success"
        label="Success"
        value={shown(ended > 0 ? executions.success / ended : null, "ratio")}
        note={executions.failed > 0 ? `${executions.failed} failed` : ""}
      />
      <Tile name="projects" label="Projects" value={String(stats.projects.count)} />
      <Tile
        name="cost"
        label="Cost today"
        value={shown(stats.cost.today_usd, "usd")}
        note={stats.cost.limit_usd > 0 ? `of ${shown(stats.cost.limit_usd, "usd")}` : ""}
      />
      <Tile name="memory" label="Memory" value={shown(usage["memory_bytes"], "bytes")} />
      <Tile name="uptime" label="Uptime" value={seconds(stats.uptime)} />
    </dl>
  );
}

interface TileProps {
  readonly name: string;
  readonly label: string;
  readonly value: string;
  readonly note?: string;
}

function Tile({ name, label, value, note = "" }: TileProps): VNode {
  return (
    <div class="card tile" data-tile={name}>
      <dt>{label}</dt>
      <dd>
        <strong>{value}</strong>
        {note !== "" && <span class="hint">{note}</span>}
      </dd>
    </div>
  );
}
