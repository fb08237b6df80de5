import type { Unit } from "./format";
import type { Line, Timeline } from "./timeline";

/** One line of a panel. */
export interface Figure {
  readonly label: string;
  /** Its name in `server_history`. */
  readonly name: string;
  /** Which colour of the palette. */
  readonly colour: Colour;
}

export type Colour = "teal" | "blue" | "amber" | "red" | "violet" | "grey";

/** A chart with a few lines of one unit. */
export interface Panel {
  readonly id: string;
  readonly title: string;
  /** Over what its values are taken. */
  readonly hint: string;
  readonly unit: Unit;
  readonly figures: readonly Figure[];
  /** Prefix of further series that are found at run time, in addition to `figures`. */
  readonly prefix?: string;
  /** The top of its axis, where that is known. */
  readonly most?: number;
}

export interface Group {
  readonly title: string;
  readonly panels: readonly Panel[];
}

const ERROR_COLOURS: readonly Colour[] = ["red", "amber", "violet", "blue", "teal", "grey"];

/** The four panels of the monitoring guide. */
export const GUIDE: Group = {
  title: "At a glance",
  panels: [
    panel("connections", "Active Connections", "now", "count", [["Active", "connections", "teal"]]),
    panel("executions", "Execution Rate", "over 5 minutes", "per_minute", [
      ["success", "executions.success", "teal"],
      ["error", "executions.error", "red"],
      ["timeout", "executions.timeout", "amber"],
      ["killed", "executions.killed", "violet"],
      ["rejected", "executions.rejected", "grey"],
    ]),
    panel("execution-p95", "Execution Duration (95th percentile)", "over 30 minutes", "seconds", [
      ["p95", "execution_p95", "teal"],
    ]),
    { ...panel("errors", "Error Rate", "over 5 minutes, by code", "per_minute", []), prefix: "errors." },
  ],
};

/** The three groups of the guide's system dashboard. */
export const GROUPS: readonly Group[] = [
  {
    title: "Resource usage",
    panels: [
      panel("cpu", "CPU", "over 1 minute", "ratio", [
        ["server, of one core", "cpu.server", "teal"],
        ["machine, of all cores", "cpu.machine", "blue"],
      ]),
      panel("memory", "Memory", "now", "bytes", [
        ["server", "memory.server", "teal"],
        ["machine", "memory.machine", "blue"],
      ]),
      panel("disk", "Disk I/O", "of the machine, over 1 minute", "bytes_per_second", [
        ["read", "disk.read", "teal"],
        ["written", "disk.written", "blue"],
      ]),
      panel("disk-free", "Disk Free", "of the data directory", "bytes", [["free", "disk_free", "teal"]]),
      panel("network", "Network Traffic", "with clients, over 1 minute", "bytes_per_second", [
        ["received", "network.received", "teal"],
        ["sent", "network.sent", "blue"],
      ]),
      panel("loop-lag", "Event Loop Lag", "largest within 1 minute", "seconds", [["lag", "loop_lag", "teal"]]),
    ],
  },
  {
    title: "Application",
    panels: [
      panel("requests", "Request Rate", "over 5 minutes", "per_minute", [["answered", "requests.ok", "teal"]]),
      panel("request-errors", "Request Error Rate", "over 5 minutes", "per_minute", [
        ["client error", "requests.client_error", "amber"],
        ["server error", "requests.server_error", "red"],
      ]),
      panel("response-time", "Response Time (95th percentile)", "over 5 minutes", "seconds", [
        ["p95", "request_p95", "teal"],
      ]),
      panel("work", "Running and Waiting", "now", "count", [
        ["running", "running", "teal"],
        ["queued prompts", "queue", "blue"],
        ["approvals", "approvals", "amber"],
      ]),
    ],
  },
  {
    title: "Business",
    panels: [
      panel("projects", "Projects", "now", "count", [["projects", "projects", "teal"]]),
      panel("executions-hourly", "Executions per Hour", "of the last hour", "count", [
        ["ended", "executions_hourly", "teal"],
      ]),
      panel("execution-mean", "Average Execution Time", "of the last hour", "seconds", [
        ["mean", "execution_mean", "teal"],
      ]),
      {
        ...panel("success", "Success Rate", "of the last hour", "ratio", [["success", "success_ratio", "teal"]]),
        most: 1,
      },
      panel("tokens", "Tokens", "of the last hour", "count", [
        ["input", "tokens.input", "teal"],
        ["output", "tokens.output", "blue"],
        ["cache read", "tokens.cacheRead", "violet"],
        ["cache creation", "tokens.cacheCreation", "amber"],
      ]),
      panel("cost", "Cost", "of the last hour", "usd", [["cost", "cost", "teal"]]),
    ],
  },
];

/** The lines of a panel with their series. */
export function linesOf(panel: Panel, timeline: Timeline): { readonly figure: Figure; readonly line: Line }[] {
  const found = figuresOf(panel, timeline).map((figure) => ({ figure, line: timeline.lines[figure.name] ?? [] }));
  if (panel.unit !== "per_minute") return found;
  return found.map(({ figure, line }) => ({ figure, line: line.map((value) => (value === null ? null : value * 60)) }));
}

function figuresOf({ figures, prefix, unit }: Panel, timeline: Timeline): readonly Figure[] {
  if (prefix === undefined) {
    // What never happened would only hide what did.
    const happened = ({ name }: Figure): boolean =>
      timeline.lines[name]?.some((value) => value !== 0 && value !== null) ?? false;
    return unit === "per_minute" ? figures.filter((figure, index) => index === 0 || happened(figure)) : figures;
  }
  const names = Object.keys(timeline.lines).filter((name) => name.startsWith(prefix));
  return names.map((name, index) => {
    const colour = ERROR_COLOURS[index % ERROR_COLOURS.length] ?? "grey";
    return { label: name.slice(prefix.length), name, colour };
  });
}

function panel(
  id: string,
  title: string,
  hint: string,
  unit: Unit,
  figures: readonly (readonly [label: string, name: string, colour: Colour])[],
): Panel {
  return { id, title, hint, unit, figures: figures.map(([label, name, colour]) => ({ label, name, colour })) };
}
