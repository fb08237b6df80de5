import { signal, type ReadonlySignal } from "@preact/signals";
import type { Link } from "../connection/link";
import type { Socket } from "../connection/socket";
import { Stream, type Position, type StreamListener, type StreamState } from "../connection/stream";
import type { Approvals } from "../store/approvals";
import type { OfflinePages } from "../store/offline";
import type { MessagesData, ProjectJoinData, QueuedPrompt } from "../wire/generated";
import { ServerError, type Frame } from "../wire/frame";
import { beginsTurn, entriesOf, type RawEntry } from "./entry";
import type { Rest } from "./item";
import { Executions } from "./executions";
import { Live } from "./live";
import { Prelude } from "./prelude";
import { list, optionalText, record } from "./reading";
import { Timeline } from "./timeline";

/** A page of the log: limits of its entries and bytes; large entries are truncated to previews. */
const PAGE = { limit: 200, max_bytes: 131_072, large: "reference" } as const;
/** How long a fetch may take at most, in milliseconds for each byte and for all of it. */
const FETCH_MS = { byte: 0.25, all: 60_000 };
/** The most bytes that may be asked for in a page; one entry comes whole in any case. */
const MAX_PAGE = 8_388_608;
/** How long entries gather before the newest page is stored for offline, in milliseconds. */
const STORE_MS = 1000;

/** One conversation, followed while it is open. */
export class Conversation implements StreamListener {
  readonly id: string;
  readonly timeline = new Timeline();
  readonly live = new Live();
  readonly executions: Executions;
  /** Whether the end is visible; then the newest entries are shown after a reconnect, not the missed ones. */
  isFollowing = true;
  private readonly link: Link;
  private readonly approvals: Approvals;
  private readonly stream: Stream;
  private readonly prompts = signal<readonly QueuedPrompt[]>([]);
  private readonly watching = signal(1);
  private readonly problem = signal<Error | null>(null);
  private readonly ready = signal(false);
  private readonly begun = signal<string | null>(null);
  private readonly running = signal<string | null>(null);
  /** The newest entry that came, of the log with this epoch. */
  private reached: Position | null = null;
  private readonly storedAt = signal<string | null>(null);
  private readonly offline: OfflinePages;
  /** The newest entries, without a gap, to be stored for offline. */
  private newest: RawEntry[] = [];
  private storing: ReturnType<typeof setTimeout> | undefined;
  private reading: Promise<void> | null = null;
  private prelude: Prelude | null = null;
  /** The oldest entry that the server has. */
  private firstInLog = 1;
  private readonly isBusy = signal(false);

  constructor(link: Link, id: string, approvals: Approvals, offline: OfflinePages) {
    this.link = link;
    this.id = id;
    this.approvals = approvals;
    this.offline = offline;
    this.stream = new Stream(link, id, this);
    this.executions = new Executions(link, id);
  }

  get state(): ReadonlySignal<StreamState> {
    return this.stream.state;
  }

  /** The prompts that wait in the server. */
  get queue(): ReadonlySignal<readonly QueuedPrompt[]> {
    return this.prompts;
  }

  /** How many clients follow the project, this one included. */
  get subscribers(): ReadonlySignal<number> {
    return this.watching;
  }

  /** Why the project cannot be followed. */
  get failure(): ReadonlySignal<Error | null> {
    return this.problem;
  }

  /** Whether the first page is here. */
  get loaded(): ReadonlySignal<boolean> {
    return this.ready;
  }

  /** When the page was stored that is shown until the server has sent one; null when what is shown is the server's. */
  get asOf(): ReadonlySignal<string | null> {
    return this.storedAt;
  }

  /** When the newest prompt was given, as far as that is known. */
  get startedAt(): ReadonlySignal<string | null> {
    return this.begun;
  }

  /** The execution that runs; null when none does, or when which one is not known. */
  get executionId(): ReadonlySignal<string | null> {
    return this.running;
  }

  /** Shows the newest entry; set by what shows the entries. */
  jump: (() => void) | null = null;

  /** Whether entries out of memory are being read. */
  get isReading(): ReadonlySignal<boolean> {
    return this.isBusy;
  }

  start(): void {
    this.stream.start();
    void this.offline.page(this.id).then((page) => {
      if (page === null || this.ready.value) return;
      // Nothing is read on from here: the server's newest page takes the place of all of it.
      this.timeline.reset(page.entries, page.entries[0]?.offset ?? 0, page.entries.at(-1)?.offset ?? 0);
      this.storedAt.value = page.at;
      this.ready.value = true;
    }, ignored);
  }

  /** @returns whether entries were still to come. */
  stop(): boolean {
    if (this.storing !== undefined) this.store();
    return this.stream.stop();
  }

  /** Reads entries that are older than those in memory. */
  async loadOlder(): Promise<void> {
    if (!this.timeline.hasOlder) return;
    await this.read(async () => {
      const before = this.timeline.firstOffset;
      if (this.prelude !== null && before <= this.firstInLog) {
        const older = await this.prelude.older(before);
        const first = this.prelude.isComplete ? (older[0]?.offset ?? before) : -Infinity;
        if (this.timeline.firstOffset === before) this.timeline.prepend(older, first);
        return;
      }
      const page = await this.page({ before });
      const first = this.firstOf(page);
      if (this.timeline.firstOffset === before) this.timeline.prepend(entriesOf(page), first);
    });
  }

  /** What precedes everything that a page of the log leads to: its oldest entry, or the session that it continues. */
  private firstOf(page: MessagesData): number {
    const { first_offset } = page.metadata;
    this.firstInLog = first_offset;
    const oldest = entriesOf(page)[0];
    return oldest?.offset === first_offset && this.findPrelude(oldest) ? -Infinity : first_offset;
  }

  /** Whether the conversation begins with the history of a session, by the oldest entry of the log. */
  private findPrelude(oldest: RawEntry): boolean {
    this.prelude ??= Prelude.before(oldest, this.link, this.id);
    return this.prelude !== null;
  }

  /** Reads entries that are newer than those in memory, if these were evicted. */
  async loadNewer(): Promise<void> {
    if (!this.timeline.hasNewer) return;
    await this.read(async () => {
      const since = this.timeline.lastOffset;
      if (since < 0) {
        // Records before the log cannot be read forwards.
        const begin = await this.page({ since: this.firstInLog - 1 });
        this.timeline.reset(entriesOf(begin), this.firstOf(begin), begin.metadata.last_offset);
        return;
      }
      const page = await this.page({ since });
      if (this.timeline.lastOffset === since) this.timeline.extend(entriesOf(page));
    });
  }

  /** Puts the newest entries into memory, when others are. */
  async toNewest(): Promise<void> {
    await this.reading;
    if (!this.timeline.hasNewer) return;
    await this.read(async () => {
      const page = await this.page({});
      const { last_offset } = page.metadata;
      // Entries may have arrived during the read; reading continues from here.
      this.timeline.reset(entriesOf(page), this.firstOf(page), Math.max(last_offset, this.reached?.offset ?? 0));
    });
    await this.loadNewer();
  }

  /** Fetches the whole of an entry of which only the beginning is here. */
  async loadWhole({ offset, size }: Rest): Promise<void> {
    if (offset < 0 && this.prelude !== null) {
      const whole = await this.prelude.whole(this.timeline.offsetAfter(offset));
      for (const entry of whole) this.timeline.replace(entry);
      return;
    }
    const page = await this.link.request(
      "get_messages",
      {
        limit: 1,
        since: { offset: offset - 1, epoch: this.reached?.epoch ?? null },
        max_bytes: Math.min(size, MAX_PAGE),
      },
      { conversationId: this.id, timeoutMs: FETCH_MS.all + size * FETCH_MS.byte },
    );
    for (const entry of entriesOf(page)) if (entry.offset === offset) this.timeline.replace(entry);
  }

  async position(socket: Socket): Promise<Position> {
    if (this.reached !== null && (await this.catchUp(socket, this.reached))) return this.reached;
    const page = await socket.request("get_messages", PAGE, this.id);
    this.prelude = null;
    this.timeline.reset(entriesOf(page), this.firstOf(page), page.metadata.last_offset);
    this.begun.value = entriesOf(page).findLast(beginsTurn)?.timestamp ?? null;
    this.ready.value = true;
    this.storedAt.value = null;
    this.newest = entriesOf(page);
    this.storeSoon();
    this.reached = reachedBy(page);
    return this.reached;
  }

  /**
   * Reads what has come since an entry, a page at most: what is more is skipped, to be read when it is scrolled to.
   *
   * @returns false when the log cannot be continued from there, or the newest entries are to be shown.
   */
  private async catchUp(socket: Socket, since: Position): Promise<boolean> {
    let page: MessagesData;
    try {
      page = await socket.request("get_messages", { ...PAGE, since }, this.id);
    } catch (error) {
      if (error instanceof ServerError && error.code === "VALIDATION_FAILED") return false; // another epoch
      throw error;
    }
    const { first_offset, last_offset, has_more } = page.metadata;
    if (first_offset > since.offset + 1 || (has_more && this.isFollowing)) return false;
    for (const entry of entriesOf(page)) this.entry(entry);
    if (has_more) {
      this.timeline.advance(this.prelude === null ? first_offset : -Infinity, last_offset);
      this.newest = [];
      this.reached = reachedBy(page);
    }
    return true;
  }

  joined(reply: ProjectJoinData, behind: boolean): void {
    this.problem.value = null;
    this.prompts.value = reply.queue;
    this.approvals.replaceOf(this.id, reply.approvals);
    this.live.join(reply.partial, behind);
    if (reply.state === "EXECUTING") void this.executions.running().then((id) => (this.running.value = id));
    else this.running.value = null;
  }

  lost(): void {
    this.reached = null;
    this.live.clear();
  }

  failed(error: Error): void {
    this.problem.value = error;
    // The user can repeat a read that timed out; a deleted project stays missing.
    if (error instanceof ServerError && error.code === "PROJECT_NOT_FOUND") this.ready.value = true;
  }

  frame(frame: Frame): void {
    if (frame.offset !== undefined) this.entry({ ...frame, offset: frame.offset });
    else if (frame.type === "agent_message") this.live.accept(record(frame.data));
    else if (frame.type === "queue_state") this.prompts.value = frame.data.queue;
    else if (frame.type === "project_state" && frame.data.state !== "EXECUTING") this.live.clear();
    else if (frame.type === "project_joined" || frame.type === "project_left") {
      this.watching.value = frame.data.subscribers;
    }
    // Approvals in a replay are history; the reply to the join has the open ones.
    if (!this.stream.isReplay(frame)) this.approvals.accept(frame);
  }

  private entry(raw: RawEntry): void {
    const { offset, timestamp, type, data } = raw;
    if (this.reached !== null) this.reached = { epoch: this.reached.epoch, offset, timestamp };
    const entry = this.timeline.append(raw);
    if (offset === this.firstInLog && this.findPrelude(raw)) this.timeline.advance(-Infinity, offset);
    this.newest = [...this.newest.slice(1 - PAGE.limit), raw];
    this.storeSoon();
    if (beginsTurn(raw)) {
      this.begun.value = timestamp;
      this.running.value = optionalText(record(data)["execution_id"]);
    }
    if (type !== "agent_message") return;
    const line = record(data);
    if (line["type"] === "result") {
      const ended = list(line["user_message_uuids"]);
      if (ended.length === 0 || ended.includes(this.running.value)) this.running.value = null;
      // A replay ends many; they are read when they are shown.
      if (this.state.value === "live") void this.executions.refresh();
    }
    if (entry.items.length > 0 && (line["parent_tool_use_id"] ?? null) === null) this.live.clear();
  }

  private storeSoon(): void {
    this.storing ??= setTimeout(() => this.store(), STORE_MS);
  }

  private store(): void {
    clearTimeout(this.storing);
    this.storing = undefined;
    this.offline.putPage(this.id, this.newest);
  }

  private page(data: { before?: number; since?: number }): Promise<MessagesData> {
    const epoch = this.reached?.epoch ?? null;
    const { before, since } = data;
    return this.link.request(
      "get_messages",
      {
        ...PAGE,
        ...(before === undefined ? {} : { before: { offset: before, epoch } }),
        ...(since === undefined ? {} : { since: { offset: since, epoch } }),
      },
      { conversationId: this.id },
    );
  }

  /** One page at a time; what fails is asked for again by the next scroll. */
  private async read(work: () => Promise<void>): Promise<void> {
    if (this.reading !== null) return;
    this.isBusy.value = true;
    this.reading = work().catch(ignored);
    await this.reading;
    this.reading = null;
    this.isBusy.value = false;
  }
}

function ignored(): void {
  return;
}

function reachedBy({ messages, metadata: { epoch, last_offset: offset } }: MessagesData): Position {
  const last = messages.at(-1);
  return last?.offset === offset ? { epoch, offset, timestamp: last.timestamp } : { epoch, offset };
}
