import type { VNode } from "preact";
import { CircleAlert, CircleCheck, TriangleAlert } from "lucide";
import { passed, shown, type Unit } from "../../dashboard/format";
import type { CheckStateData, LimitData } from "../../wire/generated";
import { Icon } from "../icon";
import { Runbook } from "./runbook";

const ICONS = { healthy: CircleCheck, warning: TriangleAlert, unhealthy: CircleAlert } as const;
const CHECKS: Readonly<Record<string, string>> = {
  claude: "Claude Code CLI",
  disk: "Disk",
  storage: "Database",
  event_loop: "Event loop",
  certificate: "Certificate",
  queue: "Queues",
};
const LIMITS: Readonly<Record<string, readonly [label: string, unit: Unit]>> = {
  connections: ["Connections", "count"],
  projects: ["Projects", "count"],
  executions: ["Executions", "count"],
  processes: ["CLI processes", "count"],
  memory_bytes: ["Memory", "bytes"],
  cost_usd_per_day: ["Daily cost", "usd"],
};
/** From which share on a limit is nearly reached. */
const NEARLY = 0.9;

/** How the parts of the server are, and since when. */
export function Checks({ checks, now }: { readonly checks: readonly CheckStateData[]; readonly now: number }): VNode {
  return (
    <section class="card report" aria-labelledby="checks">
      <h2 id="checks">Health checks</h2>
      <ul class="checks">
        {checks.map(({ name, status, message, since, runbook }) => (
          <li key={name} class={status} data-check={name}>
            <Icon node={ICONS[status]} size={18} />
            <div>
              <span class="check-name">{CHECKS[name] ?? name}</span> <span class="check-status">{status}</span>
              {since !== null && <span class="hint"> for {passed(Date.parse(since), now)}</span>}
              {message !== null && <p>{message}</p>}
              {status !== "healthy" && <Runbook name={runbook} />}
            </div>
          </li>
        ))}
      </ul>
    </section>
  );
}

/** How much of each limit is used. */
export function Limits({ limits }: { readonly limits: readonly LimitData[] }): VNode {
  return (
    <section class="card report" aria-labelledby="limits">
      <h2 id="limits">Limits</h2>
      <ul class="limits">
        {limits.map((limit) => (
          <Limit key={limit.name} {...limit} />
        ))}
      </ul>
    </section>
  );
}

function Limit({ name, usage, limit, runbook }: LimitData): VNode {
  const [label, unit] = LIMITS[name] ?? [name, "count"];
  const share = limit > 0 ? usage / limit : 0;
  const text = limit > 0 ? `${shown(usage, unit)} of ${shown(limit, unit)}` : `${shown(usage, unit)}, no limit`;
  const high = share >= NEARLY && runbook !== null;
  return (
    <li data-limit={name}>
      <span>{label}</span>
      <span class="hint">{text}</span>
      <div
        class={high ? "bar high" : "bar"}
        role="meter"
        aria-label={label}
        aria-valuemin={0}
        aria-valuemax={100}
        aria-valuenow={Math.round(Math.min(1, share) * 100)}
        aria-valuetext={text}
      >
        <span style={{ width: `${Math.min(1, share) * 100}%` }} />
      </div>
      {high && <Runbook name={runbook} />}
    </li>
  );
}
