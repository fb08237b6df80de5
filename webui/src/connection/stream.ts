import { signal, type ReadonlySignal } from "@preact/signals";
import type { ProjectJoinData } from "../wire/generated";
import { conversationOf, ServerError, type Frame } from "../wire/frame";
import type { Link } from "./link";
import { ConnectionLostError, type Socket } from "./socket";

/** A place in a log: everything up to and including it is known. */
export interface Position {
  readonly epoch: string;
  readonly offset: number;
  /** Of the entry at `offset`; by another one the server sees that its log was put back to an older state. */
  readonly timestamp?: string;
}

/** How a stream relates to its log. */
export type StreamState = "offline" | "catching-up" | "live";

export interface StreamListener {
  /** Where to go on from, asked before each join; it may have to be found out first. */
  position(socket: Socket): Promise<Position>;
  /** Joined. `behind`: entries follow that are older than the state in the reply. */
  joined(reply: ProjectJoinData, behind: boolean): void;
  /** An entry, each once and in order, or a live frame. */
  frame(frame: Frame): void;
  /** The log cannot be continued from that position: it is another one, or the next entries are gone. */
  lost(): void;
  /** The conversation cannot be followed. */
  failed(error: Error): void;
}

const AGAIN_MS = 2000;

/** Follows one conversation across any number of connections: each entry once, in order. */
export class Stream {
  private readonly current = signal<StreamState>("offline");
  private readonly link: Link;
  private readonly conversationId: string;
  private readonly listener: StreamListener;
  private readonly ends: (() => void)[] = [];
  private attached = false;
  private ended = false;
  private next = 0;
  private head = 0;
  /** Counts the joins, so that an answer to an older one is known as such. */
  private attempt = 0;

  constructor(link: Link, conversationId: string, listener: StreamListener) {
    this.link = link;
    this.conversationId = conversationId;
    this.listener = listener;
  }

  get state(): ReadonlySignal<StreamState> {
    return this.current;
  }

  /** Whether an entry is older than the approvals and the queue of the last join. */
  isReplay(frame: Frame): boolean {
    return frame.offset !== undefined && frame.offset <= this.head;
  }

  start(): void {
    this.ends.push(
      this.link.onFrame((frame) => this.accept(frame)),
      this.link.onOpen((socket) => void this.join(socket)),
      this.link.status.subscribe((status) => {
        if (status.kind === "online") return;
        this.attached = false;
        this.current.value = "offline";
      }),
    );
  }

  /** Stops following; @returns whether entries were still to come. */
  stop(): boolean {
    this.ended = true;
    for (const end of this.ends) end();
    this.link.socketNow?.request("project_leave", {}, this.conversationId).catch(ignored);
    return this.current.value !== "live";
  }

  private async join(socket: Socket): Promise<void> {
    const attempt = ++this.attempt;
    const isStale = (): boolean => this.ended || attempt !== this.attempt || this.link.socketNow !== socket;
    this.attached = false;
    this.current.value = "catching-up";
    try {
      const since = await this.listener.position(socket);
      if (isStale()) return;
      await socket.request("project_join", { since, large: "reference" }, this.conversationId, (reply) => {
        if (!isStale()) this.onJoined(socket, since, reply);
      });
    } catch (error) {
      if (isStale() || error instanceof ConnectionLostError) return; // the next connection joins again
      if (error instanceof ServerError && error.code === "RATE_LIMITED") this.joinLater(socket);
      else this.listener.failed(error instanceof Error ? error : new Error(String(error)));
    }
  }

  private joinLater(socket: Socket): void {
    setTimeout(() => {
      if (!this.ended && this.link.socketNow === socket) void this.join(socket);
    }, AGAIN_MS);
  }

  private onJoined(socket: Socket, since: Position, reply: ProjectJoinData): void {
    if (!reply.recovered || reply.epoch !== since.epoch) {
      this.listener.lost();
      void this.join(socket);
      return;
    }
    this.next = since.offset + 1;
    this.head = reply.offset;
    this.attached = true;
    this.listener.joined(reply, this.next <= this.head);
    this.look();
  }

  private accept(frame: Frame): void {
    if (conversationOf(frame) !== this.conversationId || !this.attached) return;
    if (frame.offset !== undefined) {
      if (frame.offset !== this.next) {
        this.mend();
        return;
      }
      this.next += 1;
    }
    this.listener.frame(frame);
    this.look();
  }

  /** An entry is missing or doubled, which the server never does; the log is read again from what is stored. */
  private mend(): void {
    this.attached = false;
    this.listener.lost();
    const socket = this.link.socketNow;
    if (socket !== null) void this.join(socket);
  }

  private look(): void {
    this.current.value = this.next > this.head ? "live" : "catching-up";
  }
}

/** The connection is gone, and with it the subscription. */
function ignored(): void {
  return;
}
