import { signal, type ReadonlySignal } from "@preact/signals";
import type { Link } from "../connection/link";
import { ConnectionLostError, type Socket } from "../connection/socket";
import { messageOf, type Frame } from "../wire/frame";
import type { SessionHistoryData, SessionLinesData } from "../wire/generated";
import { entriesOf, type RawEntry } from "./entry";
import type { Rest } from "./item";
import { Timeline } from "./timeline";

/** A page: limits of its records and bytes; large records are truncated to previews. */
export const SESSION_PAGE = { limit: 100, max_bytes: 131_072, large: "reference" } as const;
/** The largest page; one record comes whole in any case. */
export const WHOLE_RECORD = { limit: 1, max_bytes: 8_388_608, large: "whole" } as const;

/**
 * The records of a session of the CLI, from its own file: the newest ones, older ones by pages, and those that a
 * terminal writes; each once and in order, across any number of connections.
 */
export class SessionReader {
  readonly timeline = new Timeline();
  private readonly link: Link;
  private readonly conversationId: string;
  private readonly sessionId: string;
  private readonly ends: (() => void)[] = [];
  private readonly writing = signal(false);
  private readonly said = signal("");
  private readonly ready = signal(false);
  private readonly isBusy = signal(false);
  /** The file, and the position behind the newest record that has come; null before the first page. */
  private place: { readonly epoch: string; readonly end: number } | null = null;
  /** Before which the next older page ends, and the oldest record at that time. */
  private older = { before: 0, first: 0 };
  /** Counts the joins, so that an answer to an older one is known as such. */
  private attempt = 0;

  constructor(link: Link, conversationId: string, sessionId: string) {
    this.link = link;
    this.conversationId = conversationId;
    this.sessionId = sessionId;
  }

  /** Whether a terminal has the session open. */
  get active(): ReadonlySignal<boolean> {
    return this.writing;
  }

  /** Why it cannot be read, or not any longer; empty otherwise. */
  get problem(): ReadonlySignal<string> {
    return this.said;
  }

  /** Whether the first page is here. */
  get loaded(): ReadonlySignal<boolean> {
    return this.ready;
  }

  /** Whether another page is being read. */
  get isReading(): ReadonlySignal<boolean> {
    return this.isBusy;
  }

  start(): void {
    this.ends.push(
      this.link.onFrame((frame) => this.accept(frame)),
      this.link.onOpen((socket) => void this.join(socket)),
    );
  }

  stop(): void {
    this.attempt += 1;
    for (const end of this.ends) end();
    this.link.socketNow
      ?.request("session_unfollow", { session_id: this.sessionId }, this.conversationId)
      .catch(() => undefined);
  }

  /** Reads records that are older than those in memory. */
  async loadOlder(): Promise<void> {
    const { place, attempt } = this;
    // The oldest records leave the memory when many come.
    const before = this.older.first === this.timeline.firstOffset ? this.older.before : this.timeline.firstOffset;
    if (place === null || before === 0 || this.isBusy.value) return;
    this.isBusy.value = true;
    try {
      const page = await this.page(before);
      if (attempt === this.attempt && page.epoch === this.place?.epoch) {
        this.timeline.prepend(entriesOf(page), firstOf(page));
        this.older = { before: page.before, first: this.timeline.firstOffset };
      }
    } catch (error) {
      this.said.value = messageOf(error);
    }
    this.isBusy.value = false;
  }

  /** Puts the newest records into memory, when others are. */
  async toNewest(): Promise<void> {
    const socket = this.link.socketNow;
    if (!this.timeline.hasNewer || socket === null) return;
    this.place = null;
    await this.join(socket);
  }

  /** Fetches the whole of a record of which only the beginning is here. */
  async loadWhole({ offset }: Rest): Promise<void> {
    const end = this.timeline.offsetAfter(offset) ?? this.place?.end ?? null;
    const page = await this.link.request(
      "session_history",
      { ...WHOLE_RECORD, session_id: this.sessionId, before: end },
      { conversationId: this.conversationId },
    );
    for (const entry of entriesOf(page)) this.timeline.replace(entry);
  }

  private async join(socket: Socket): Promise<void> {
    const attempt = ++this.attempt;
    const isStale = (): boolean => attempt !== this.attempt || this.link.socketNow !== socket;
    const session_id = this.sessionId;
    try {
      if (this.place === null) {
        const page = await socket.request("session_history", { ...SESSION_PAGE, session_id }, this.conversationId);
        if (isStale()) return;
        this.begin(page);
      }
      const { epoch, end } = this.place ?? { epoch: null, end: null };
      const data = { session_id, epoch, after: end, large: SESSION_PAGE.large } as const;
      await socket.request("session_follow", data, this.conversationId, (reply) => {
        if (!isStale()) this.take(reply);
      });
    } catch (error) {
      if (isStale() || error instanceof ConnectionLostError) return; // the next connection joins again
      this.said.value = messageOf(error);
      this.ready.value = true;
    }
  }

  private begin(page: SessionHistoryData): void {
    const entries = entriesOf(page);
    this.timeline.reset(entries, firstOf(page), entries.at(-1)?.offset ?? 0);
    this.place = { epoch: page.epoch, end: page.end };
    this.older = { before: page.before, first: this.timeline.firstOffset };
    this.said.value = "";
    this.ready.value = true;
  }

  private accept(frame: Frame): void {
    if (frame.type === "session_lines" && frame.data.session_id === this.sessionId) this.take(frame.data);
  }

  private take({ epoch, messages, end, active, ended }: SessionLinesData): void {
    const { place } = this;
    if (place?.epoch !== epoch) return;
    const isNew = ({ offset }: RawEntry): boolean => offset >= place.end;
    for (const entry of entriesOf({ messages }).filter(isNew)) this.timeline.append(entry);
    this.place = { epoch, end: Math.max(place.end, end) };
    this.writing.value = active;
    if (ended === "deleted") {
      this.writing.value = false;
      this.said.value = "Claude Code has deleted this session.";
    } else if (ended === "replaced") {
      this.place = null;
      if (this.link.socketNow !== null) void this.join(this.link.socketNow);
    }
  }

  private page(before: number): Promise<SessionHistoryData> {
    const data = { ...SESSION_PAGE, session_id: this.sessionId, before };
    return this.link.request("session_history", data, { conversationId: this.conversationId });
  }
}

/** What a timeline takes for the oldest stored record: nothing precedes a page that begins at 0. */
function firstOf({ before }: SessionHistoryData): number {
  return before === 0 ? Infinity : -1;
}
