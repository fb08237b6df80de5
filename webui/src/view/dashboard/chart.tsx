import type { VNode } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { clock, shown, type Unit } from "../../dashboard/format";
import { linesOf, type Figure, type Panel } from "../../dashboard/panel";
import { rows, summary } from "../../dashboard/summary";
import { withGaps, type Line, type Timeline } from "../../dashboard/timeline";
import { useTheme } from "./theme";

interface ChartProps {
  readonly panel: Panel;
  readonly timeline: Timeline;
  /** Seconds that the time axis spans. */
  readonly range: number;
}

const HEIGHT = 150;
const FONT = "11px system-ui, sans-serif";
/** The shortest time axis. */
const LEAST_SECONDS = 120;
/** The cursor is at the same time in every chart. */
const SYNC = "dashboard";

/** A panel with its chart, its legend, and the same in words. */
export function Chart({ panel, timeline, range }: ChartProps): VNode {
  const [cursor, setCursor] = useState<number | null>(null);
  // The cursor moves in all charts at once, many times a second; what is drawn changes once in some seconds.
  const { lines, data, text } = useMemo(() => {
    const found = linesOf(panel, timeline);
    return {
      lines: found,
      data: withGaps(
        timeline,
        found.map(({ line }) => line),
      ),
      text: summary(found, panel.unit),
    };
  }, [panel, timeline]);
  const at = cursor !== null && cursor < data[0].length ? cursor : null;
  return (
    <figure class="card panel" data-panel={panel.id}>
      <figcaption>
        <h3>{panel.title}</h3>
        <span class="hint">{at === null ? panel.hint : clock((data[0][at] ?? 0) * 1000)}</span>
      </figcaption>
      <Legend lines={lines} panel={panel} at={at} data={data} />
      <p class="visually-hidden">{text}</p>
      <Plot data={data} lines={lines} panel={panel} range={range} onCursor={setCursor} />
      <Table lines={lines} panel={panel} times={timeline.times} />
    </figure>
  );
}

interface LegendProps {
  readonly lines: readonly { readonly figure: Figure; readonly line: Line }[];
  readonly panel: Panel;
  readonly at: number | null;
  readonly data: ReturnType<typeof withGaps>;
}

/** What each line is, with its newest value, or the one at the cursor. */
function Legend({ lines, panel, at, data }: LegendProps): VNode {
  if (lines.length === 0) return <p class="legend hint">No data in this period.</p>;
  return (
    <ul class="legend" aria-hidden="true">
      {lines.map(({ figure, line }, index) => (
        <li key={figure.name} data-figure={figure.name}>
          <span class={`key ${figure.colour}`} />
          {lines.length > 1 || panel.prefix !== undefined ? `${figure.label} ` : ""}
          <strong>{shown(at === null ? line.at(-1) : data[index + 1]?.[at], panel.unit)}</strong>
        </li>
      ))}
    </ul>
  );
}

interface TableProps {
  readonly lines: readonly { readonly figure: Figure; readonly line: Line }[];
  readonly panel: Panel;
  readonly times: readonly number[];
}

/** The chart as a table, rendered when it is opened. */
function Table({ lines, panel, times }: TableProps): VNode | null {
  const [open, setOpen] = useState(false);
  if (lines.length === 0) return null;
  return (
    <details class="as-table" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>
        Table<span class="visually-hidden"> of {panel.title}</span>
      </summary>
      {open && (
        <div class="scroll" tabIndex={0} role="region" aria-label={`Table of ${panel.title}`}>
          <table>
            <thead>
              <tr>
                <th scope="col">Time</th>
                {lines.map(({ figure }) => (
                  <th key={figure.name} scope="col">
                    {figure.label}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {rows(
                times,
                lines.map(({ line }) => line),
                panel.unit,
              ).map(([time, ...values]) => (
                <tr key={time}>
                  <th scope="row">{time}</th>
                  {values.map((value, index) => (
                    <td key={index}>{value}</td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </details>
  );
}

interface PlotProps {
  readonly data: ReturnType<typeof withGaps>;
  readonly lines: readonly { readonly figure: Figure; readonly line: Line }[];
  readonly panel: Panel;
  readonly range: number;
  readonly onCursor: (index: number | null) => void;
}

/** The drawing itself. */
function Plot({ data, lines, panel, range, onCursor }: PlotProps): VNode {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const theme = useTheme();
  const figures = lines.map(({ figure }) => figure);
  const names = figures.map(({ name }) => name).join();
  const asked = useRef(range);
  asked.current = range;
  useEffect(() => {
    const element = place.current;
    if (element === null) return;
    const made = new uPlot(options(element, panel, figures, asked, onCursor), data, element);
    plot.current = made;
    const sized = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: HEIGHT }));
    sized.observe(element);
    return () => {
      sized.disconnect();
      made.destroy();
      plot.current = null;
    };
    // The data is set below; made anew only for other lines or colours.
  }, [names, theme, panel]);
  useEffect(() => {
    plot.current?.setData(data);
  }, [data, range]);
  return <div class="plot" ref={place} aria-hidden="true" />;
}

function options(
  element: HTMLElement,
  panel: Panel,
  figures: readonly Figure[],
  range: { readonly current: number },
  onCursor: (index: number | null) => void,
): uPlot.Options {
  const style = getComputedStyle(element);
  const colour = (name: string): string => style.getPropertyValue(name).trim();
  const axis = { stroke: colour("--muted"), font: FONT, ticks: { show: false } };
  const grid = { stroke: colour("--line"), width: 1 };
  return {
    width: element.clientWidth,
    height: HEIGHT,
    padding: [8, 8, 0, 0],
    legend: { show: false },
    cursor: { sync: { key: SYNC }, drag: { x: false, y: false }, points: { size: 6 }, y: false },
    hooks: { setCursor: [(made) => onCursor(made.cursor.idx ?? null)] },
    scales: {
      x: {
        range: (_, least, most) => span(least, most, range.current),
      },
      y: { range: (_, __, most) => [0, panel.most ?? ceiling(most, panel)] },
    },
    axes: [
      { ...axis, grid: { show: false }, space: 56, size: 24, values: (_, splits) => splits.map(minute) },
      {
        ...axis,
        grid,
        space: 36,
        size: (_, values) =>
          14 + 6.2 * Math.max(0, ...((values as string[] | null) ?? []).map((value) => value.length)),
        values: (_, splits) => splits.map((value) => shown(value, panel.unit)),
        incrs: STEPS[panel.unit] ?? DECIMAL_STEPS,
      },
    ],
    series: [
      {},
      ...figures.map((figure) => {
        const stroke = colour(`--chart-${figure.colour}`);
        const fill = figures.length === 1 ? { fill: `${stroke}22` } : {};
        return { label: figure.label, stroke, width: 1.75, points: { size: 4 }, spanGaps: false, ...fill };
      }),
    ],
  };
}

const DECIMAL_STEPS = Array.from({ length: 24 }, (_, power) =>
  [1, 2, 5].map((step) => step * 10 ** (power - 9)),
).flat();
const BINARY_STEPS = Array.from({ length: 50 }, (_, power) => 2 ** power);
/** Between two lines of the grid there are steps that read well. */
const STEPS: Partial<Record<Unit, number[]>> = {
  count: DECIMAL_STEPS.filter((step) => step >= 1),
  bytes: BINARY_STEPS,
  bytes_per_second: BINARY_STEPS,
  seconds: [
    ...DECIMAL_STEPS.filter((step) => step <= 20),
    ...[30, 60, 120, 300, 600, 1200, 1800],
    ...DECIMAL_STEPS.filter((step) => step >= 1).map((step) => step * 3600),
  ],
};

/** What the time axis shows: the range, or what there is of it, for a server that has just started. */
function span(least: number | null, most: number | null, range: number): [number, number] {
  const end = most ?? Date.now() / 1000;
  return [end - Math.min(range, Math.max(LEAST_SECONDS, end - (least ?? end))), end];
}

/** The top of an axis: a little above the largest value, so that a flat line at the top is seen. */
function ceiling(most: number | null, { unit }: Panel): number {
  if (most === null || !Number.isFinite(most) || most <= 0) return unit === "ratio" ? 0.1 : 1;
  return unit === "count" ? Math.max(1, most * 1.15) : most * 1.15;
}

function minute(second: number): string {
  return clock(second * 1000, second % 60 !== 0);
}
