import type { VNode } from "preact";
import { useEffect, useMemo } from "preact/hooks";
import { ago, clock } from "../../dashboard/format";
import { Monitor, RANGES, type Range } from "../../dashboard/monitor";
import { GROUPS, GUIDE, type Group } from "../../dashboard/panel";
import { useStore } from "../../store/store";
import type { ServerOverviewData } from "../../wire/generated";
import { Chart } from "./chart";
import { Checks, Limits } from "./condition";
import { Errors, Executions } from "./record";
import { Tiles } from "./tiles";
import "./dashboard.css";

const LABELS: Readonly<Record<Range, string>> = { 900: "15 min", 3600: "1 h", 21_600: "6 h", 86_400: "24 h" };

interface Part {
  readonly monitor: Monitor;
}

/** How the server is and was, without Prometheus or Grafana. Each part follows what it shows, and nothing else. */
export default function DashboardPage(): VNode {
  const { link } = useStore();
  const monitor = useMemo(() => new Monitor(link), [link]);
  useEffect(() => {
    monitor.open();
    return () => monitor.close();
  }, [monitor]);
  return (
    <main class="page">
      <div class={`page-inner dashboard ${monitor.freshness.value}`}>
        <header class="page-head">
          <h1>Dashboard</h1>
          <Live monitor={monitor} />
          <Ranges monitor={monitor} />
        </header>
        <Now monitor={monitor} />
        <Panels monitor={monitor} group={GUIDE} />
        <Blocks monitor={monitor} />
        {GROUPS.map((group) => (
          <Panels key={group.title} monitor={monitor} group={group} />
        ))}
        <About monitor={monitor} />
      </div>
    </main>
  );
}

/** Whether the metrics are live. */
function Live({ monitor }: Part): VNode {
  const freshness = monitor.freshness.value;
  if (freshness === "live") return <span class="badge live">Live</span>;
  if (freshness === "waiting") return <span class="badge">Waiting for the server…</span>;
  const since = monitor.asOf.value ?? 0;
  return (
    <span class="badge warn stale-since">
      <span role="status">Stale: as of {clock(since)}</span>
      <span aria-hidden="true">{ago(since, monitor.clock.value)}</span>
    </span>
  );
}

/** A summary of failed checks, and the current metrics. */
function Now({ monitor }: Part): VNode {
  const overview = monitor.overview.value;
  const stats = monitor.stats.value;
  return (
    <>
      {overview !== null && <Verdict overview={overview} />}
      {stats !== null && <Tiles stats={stats} overview={overview} />}
    </>
  );
}

function Blocks({ monitor }: Part): VNode | null {
  const overview = monitor.overview.value;
  const now = monitor.present.value;
  if (overview === null) return null;
  return (
    <div class="reports">
      <Checks checks={overview.checks} now={now} />
      <Limits limits={overview.limits} />
      <Executions overview={overview} now={now} />
      <Errors errors={overview.errors} now={now} />
    </div>
  );
}

/** How far back the charts reach. */
function Ranges({ monitor }: Part): VNode {
  return (
    <fieldset class="ranges">
      <legend class="visually-hidden">Time range</legend>
      {RANGES.map((range) => (
        <label key={range}>
          <input
            type="radio"
            name="range"
            checked={monitor.range.value === range}
            onChange={() => monitor.choose(range)}
          />
          <span>{LABELS[range]}</span>
        </label>
      ))}
    </fieldset>
  );
}

/** The sum of the checks, where they are not all well. */
function Verdict({ overview }: { readonly overview: ServerOverviewData }): VNode | null {
  if (overview.status === "healthy") return null;
  const wrong = overview.checks.filter(({ status }) => status !== "healthy");
  return (
    <p class={`problem ${overview.status}`} role="status">
      The server is {overview.status}: {wrong.map(({ message, name }) => message ?? name).join(" ")}
    </p>
  );
}

function Panels({ monitor, group }: Part & { readonly group: Group }): VNode {
  const timeline = monitor.timeline.value;
  const range = monitor.range.value;
  return (
    <section aria-label={group.title} class="group">
      <h2>{group.title}</h2>
      <div class="panels">
        {group.panels.map((panel) =>
          timeline === null ? (
            <div key={panel.id} class="card panel placeholder" aria-busy="true">
              <h3>{panel.title}</h3>
            </div>
          ) : (
            <Chart key={panel.id} panel={panel} timeline={timeline} range={range} />
          ),
        )}
      </div>
    </section>
  );
}

function About({ monitor }: Part): VNode | null {
  const overview = monitor.overview.value;
  if (overview === null) return null;
  const { version, revision, python_version: python, claude, started_at: started } = overview;
  return (
    <p class="hint about">
      Pocket Agent Server {version} ({revision}) on Python {python}, Claude Code CLI {claude.version ?? "not found"},
      started {new Date(started).toLocaleString()}. The charts start with the server.
    </p>
  );
}
