import { computed, signal, type ReadonlySignal } from "@preact/signals";
import type { Link } from "../connection/link";
import type { Socket } from "../connection/socket";
import type { Frame } from "../wire/frame";
import type { ServerOverviewData, ServerStatsData } from "../wire/generated";
import { begin, extend, type Timeline } from "./timeline";

/** How far back the charts may reach, in seconds. */
export const RANGES = [900, 3600, 21_600, 86_400] as const;
export type Range = (typeof RANGES)[number];

/** Seconds between two updates of the current metrics. */
const STATS_SECONDS = 2;
const OVERVIEW_SECONDS = 5;
/** The server has a new point every ten seconds or less often, and is asked for it as often as this. */
const HISTORY_SECONDS = 2;
/** Milliseconds without an update after which the metrics are stale. */
const STALE_MS = 10_000;

/** Whether what is shown is how things are. */
export type Freshness = "waiting" | "live" | "stale";

/** The metrics of the server, while the dashboard is open. */
export class Monitor {
  private readonly link: Link;
  private readonly lines = signal<Timeline | null>(null);
  private readonly figures = signal<ServerStatsData | null>(null);
  private readonly known = signal<ServerOverviewData | null>(null);
  private readonly chosen = signal<Range>(900);
  private readonly heard = signal<number | null>(null);
  private readonly now = signal(Date.now());
  private ends: (() => void)[] = [];

  constructor(link: Link) {
    this.link = link;
  }

  get timeline(): ReadonlySignal<Timeline | null> {
    return this.lines;
  }

  get stats(): ReadonlySignal<ServerStatsData | null> {
    return this.figures;
  }

  get overview(): ReadonlySignal<ServerOverviewData | null> {
    return this.known;
  }

  get range(): ReadonlySignal<Range> {
    return this.chosen;
  }

  /** The present time, in milliseconds since the epoch, by a clock that ticks each second. */
  get clock(): ReadonlySignal<number> {
    return this.now;
  }

  /** The time of the last update, in milliseconds since the epoch. */
  get asOf(): ReadonlySignal<number | null> {
    return this.heard;
  }

  readonly freshness: ReadonlySignal<Freshness> = computed(() => {
    const since = this.heard.value;
    if (since === null) return "waiting";
    return this.link.status.value.kind === "online" && this.now.value - since < STALE_MS ? "live" : "stale";
  });

  /** The time that "ago" counts from: what is stale grows no older in its own words. */
  readonly present: ReadonlySignal<number> = computed(() =>
    this.freshness.value === "stale" ? (this.heard.value ?? 0) : this.now.value,
  );

  /** Follows the server until `close`. */
  open(): void {
    const tick = setInterval(() => {
      this.now.value = Date.now();
    }, 1000);
    this.ends = [
      () => clearInterval(tick),
      this.link.onFrame((frame) => this.accept(frame)),
      this.link.onOpen((socket) => this.ask(socket)),
    ];
  }

  /** Stops the updates. */
  close(): void {
    for (const end of this.ends) end();
    this.ends = [];
    const socket = this.link.socketNow;
    if (socket === null) return;
    socket.request("server_stats", { interval: 0 }).catch(ignored);
    socket.request("server_overview", { interval: 0 }).catch(ignored);
    socket.request("server_history", { range: 60, interval: 0 }).catch(ignored);
  }

  /** Shows another stretch of time. */
  choose(range: Range): void {
    if (range === this.chosen.value) return;
    this.chosen.value = range;
    this.lines.value = null;
    const socket = this.link.socketNow;
    if (socket !== null) this.askHistory(socket);
  }

  private ask(socket: Socket): void {
    socket.request("server_stats", { interval: STATS_SECONDS }, undefined, (data) => this.look(data)).catch(ignored);
    socket
      .request("server_overview", { interval: OVERVIEW_SECONDS }, undefined, (data) => {
        this.known.value = data;
      })
      .catch(ignored);
    this.askHistory(socket);
  }

  private askHistory(socket: Socket): void {
    const range = this.chosen.value;
    socket
      .request("server_history", { range, interval: HISTORY_SECONDS }, undefined, (data) => {
        if (range === this.chosen.value) this.lines.value = begin(data);
      })
      .catch(ignored);
  }

  private look(data: ServerStatsData): void {
    this.figures.value = data;
    this.heard.value = this.now.value = Date.now();
  }

  private accept(frame: Frame): void {
    if (frame.type === "server_stats") this.look(frame.data);
    else if (frame.type === "server_overview") this.known.value = frame.data;
    else if (frame.type === "server_history" && this.lines.value !== null) {
      this.lines.value = extend(this.lines.value, frame.data, this.chosen.value * 1000);
    }
  }
}

/** The connection has ended; the next one asks again. */
function ignored(): void {
  return;
}
