import { signal, type ReadonlySignal } from "@preact/signals";
import { REPEATABLE, type Replies, type Requests } from "../wire/generated";
import type { Frame } from "../wire/frame";
import { delay } from "./backoff";
import { ConnectionLostError, Socket, type RequestType, type Wire } from "./socket";

/** How the connection to the server is. */
export type Status =
  | { readonly kind: "connecting" }
  | { readonly kind: "online" }
  /** Lost; the next attempt is at `retryAt` (milliseconds since the epoch). */
  | { readonly kind: "waiting"; readonly reason: string; readonly attempt: number; readonly retryAt: number }
  /** The server does not let this device in (any more). */
  | { readonly kind: "refused"; readonly reason: string };

/** Close codes that a request in flight may have caused, and would cause again. */
const NEVER_REPEATED_AFTER: ReadonlySet<number> = new Set([1008, 1009]);
const REFUSED: Readonly<Record<number, string>> = {
  4001: "The server does not know this device.",
  4009: "This device's access was ended: it was revoked, or its token or the certificate was replaced.",
};
const CONNECT_MS = 10_000;
const REPLY_MS = 60_000;
/** After so much silence it is asked whether the server is still there; a browser cannot ping. */
const SILENCE_MS = 30_000;
const PROBE_MS = 8_000;

export interface RequestOptions {
  readonly conversationId?: string;
  /** For all of it, the wait for a connection included; Infinity waits on. */
  readonly timeoutMs?: number;
}

/** A connection that reconnects while the page is open. */
export class Link {
  private readonly current = signal<Status>({ kind: "connecting" });
  private readonly open: () => Wire;
  private readonly frameListeners = new Set<(frame: Frame) => void>();
  private readonly openListeners = new Set<(socket: Socket) => void>();
  private waiters = new Set<() => void>();
  private socket: Socket | null = null;
  private attempt = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private watch: ReturnType<typeof setInterval> | undefined;
  private stopped = true;

  /** @param open begins a connection. */
  constructor(open: () => Wire) {
    this.open = open;
  }

  get status(): ReadonlySignal<Status> {
    return this.current;
  }

  /** The open connection, if there is one. */
  get socketNow(): Socket | null {
    return this.socket;
  }

  /** Calls `listener` with every frame that is not a reply; returns a function that stops it. */
  onFrame(listener: (frame: Frame) => void): () => void {
    this.frameListeners.add(listener);
    return () => this.frameListeners.delete(listener);
  }

  /** Calls `listener` each time a connection is open, and now if one is; returns how to stop that. */
  onOpen(listener: (socket: Socket) => void): () => void {
    this.openListeners.add(listener);
    if (this.socket !== null) listener(this.socket);
    return () => this.openListeners.delete(listener);
  }

  start(): void {
    if (!this.stopped) return;
    this.stopped = false;
    this.attempt = 0;
    this.watch = setInterval(() => this.probe(SILENCE_MS), SILENCE_MS / 3);
    this.connect();
  }

  stop(): void {
    this.stopped = true;
    clearTimeout(this.timer);
    clearInterval(this.watch);
    this.socket?.close();
  }

  /** The device has lost its network: what is open is dead, or comes back at once where the server is this machine. */
  offline(): void {
    this.socket?.close();
  }

  /** Tries again now, when it waits; asks whether the server is there, when it seems so. */
  retry(): void {
    if (this.stopped) return;
    if (this.socket !== null) this.probe(0);
    else if (this.current.value.kind === "waiting") this.connect();
  }

  /**
   * Sends a request as soon as there is a connection, and waits for its reply.
   *
   * @throws ServerError, ConnectionLostError (the request may or may not have been carried out), TimeoutError.
   */
  async request<Kind extends RequestType>(
    type: Kind,
    data: Requests[Kind],
    { conversationId, timeoutMs = REPLY_MS }: RequestOptions = {},
  ): Promise<Replies[Kind]> {
    const repeatable = REPEATABLE.has(type) || (type === "execute" && "prompt_id" in data);
    const until = performance.now() + timeoutMs;
    for (;;) {
      const socket = await within(this.connected(), until);
      try {
        return await within(socket.request(type, data, conversationId), until);
      } catch (error) {
        const again = error instanceof ConnectionLostError && !NEVER_REPEATED_AFTER.has(error.closeCode);
        if (!again || !repeatable) throw error;
      }
    }
  }

  /** The open connection, as soon as there is one. */
  async connected(): Promise<Socket> {
    while (this.socket === null) await new Promise<void>((resolve) => this.waiters.add(resolve));
    return this.socket;
  }

  private connect(): void {
    clearTimeout(this.timer);
    this.current.value = { kind: "connecting" };
    const wire = this.open();
    const socket = new Socket(wire, this.hand, (lost) => this.lost(socket, lost));
    this.timer = setTimeout(() => socket.close(), CONNECT_MS);
    wire.onopen = () => {
      clearTimeout(this.timer);
      this.online(socket);
    };
  }

  private readonly hand = (frame: Frame): void => {
    for (const listener of this.frameListeners) listener(frame);
  };

  private online(socket: Socket): void {
    this.socket = socket;
    this.current.value = { kind: "online" };
    for (const listener of this.openListeners) listener(socket);
    const waiters = this.waiters;
    this.waiters = new Set();
    for (const resume of waiters) resume();
  }

  private lost(socket: Socket, error: ConnectionLostError): void {
    clearTimeout(this.timer);
    this.socket = null;
    if (this.stopped) return;
    const refused = REFUSED[error.closeCode];
    if (refused !== undefined) {
      this.stop();
      this.current.value = { kind: "refused", reason: refused };
      return;
    }
    this.attempt = socket.proved ? 0 : this.attempt + 1;
    const wait = delay(this.attempt);
    this.current.value = {
      kind: "waiting",
      reason: error.message,
      attempt: this.attempt,
      retryAt: Date.now() + wait,
    };
    this.timer = setTimeout(() => this.connect(), wait);
  }

  /** Gives a connection up that says nothing any more, such as one of a phone that has changed its network. */
  private probe(silenceMs: number): void {
    const socket = this.socket;
    if (socket === null || performance.now() - socket.heard < silenceMs) return;
    const asked = performance.now();
    const look = (): void => {
      // Frames that arrive during the probe precede its answer, so each extends the wait.
      const left = Math.max(asked, socket.heard) + PROBE_MS + socket.patience - performance.now();
      if (left > 0) timer = setTimeout(look, left);
      else socket.close();
    };
    let timer = setTimeout(look, PROBE_MS);
    const done = (): void => clearTimeout(timer);
    socket.request("server_stats", {}).then(done, done);
  }
}

async function within<Value>(promise: Promise<Value>, until: number): Promise<Value> {
  const left = until - performance.now();
  if (left === Infinity) return promise;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new DOMException("The server did not answer in time.", "TimeoutError"));
    }, left);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
