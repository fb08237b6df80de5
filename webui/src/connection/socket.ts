import type { Replies, Requests } from "../wire/generated";
import { ServerError, readFrame, type Frame } from "../wire/frame";

/** What is used of a browser's WebSocket, so that tests can stand in for the network. */
export interface Wire {
  send(text: string): void;
  close(code?: number): void;
  onopen: ((this: never, event: never) => unknown) | null;
  onmessage: ((this: never, event: never) => unknown) | null;
  onclose: ((this: never, event: never) => unknown) | null;
}

/** The connection ended before the reply came. */
export class ConnectionLostError extends Error {
  readonly closeCode: number;

  constructor(closeCode: number) {
    super(LOST[closeCode] ?? "The connection to the server was lost.");
    this.name = "ConnectionLostError";
    this.closeCode = closeCode;
  }
}

const LOST: Readonly<Record<number, string>> = {
  1001: "The server is restarting.",
  1008: "The server ended the connection because of a policy.",
  1009: "This is larger than the server allows.",
};

export type RequestType = keyof Requests;

/** Bytes a millisecond; a slower link counts as dead. */
const SLOWEST = 4;

interface Pending {
  readonly resolve: (frame: Frame) => void;
  readonly reject: (error: Error) => void;
}

/** One open connection: sends requests, matches replies, hands out everything else in order. It does not reconnect. */
export class Socket {
  /** Whether anything came in yet: a server that accepts and hangs up counts as down. */
  proved = false;
  /** When something came in last, in milliseconds of `performance.now()`. */
  heard = performance.now();
  private readonly wire: Wire;
  private readonly onClose: (error: ConnectionLostError) => void;
  private readonly pending = new Map<string, Pending>();
  /** What the server has announced and is not here yet. */
  private incoming = { bytes: 0, frames: 0 };
  private readonly name = Math.random().toString(36).slice(2, 8);
  private number = 0;
  private closed: ConnectionLostError | null = null;

  constructor(wire: Wire, onFrame: (frame: Frame) => void, onClose: (error: ConnectionLostError) => void) {
    this.wire = wire;
    wire.onmessage = ({ data }: { readonly data: unknown }) => {
      this.heard = performance.now();
      const frame = typeof data === "string" ? readFrame(data) : null;
      if (frame === null) return;
      this.proved = true;
      if (frame.type === "incoming") {
        this.incoming = { ...frame.data };
        return;
      }
      this.incoming.frames -= 1;
      if (!this.settle(frame)) onFrame(frame);
    };
    this.onClose = onClose;
    wire.onclose = ({ code }: { readonly code: number }) => {
      this.end(code);
    };
  }

  /**
   * Asks, and waits for the reply.
   *
   * @param onReply called with the data before any later frame is handed out.
   * @throws ServerError what the server says against it; ConnectionLostError when there is no reply any more.
   */
  request<Kind extends RequestType>(
    type: Kind,
    data: Requests[Kind],
    conversationId?: string,
    onReply?: (data: Replies[Kind]) => void,
  ): Promise<Replies[Kind]> {
    if (this.closed !== null) return Promise.reject(this.closed);
    this.number += 1;
    const requestId = `${this.name}-${this.number}`;
    return new Promise((resolve, reject) => {
      this.pending.set(requestId, {
        resolve: (frame) => {
          const reply = frame.data as Replies[Kind];
          onReply?.(reply);
          resolve(reply);
        },
        reject,
      });
      this.wire.send(JSON.stringify({ type, data, request_id: requestId, conversation_id: conversationId }));
    });
  }

  /**
   * How long what the server has announced may be under way, in milliseconds: a browser reports nothing of a frame
   * before all of it has arrived.
   */
  get patience(): number {
    return this.incoming.frames > 0 ? this.incoming.bytes / SLOWEST : 0;
  }

  /** Ends it from this side; a link that is dead may never say so itself. */
  close(): void {
    this.wire.close(1000);
    this.end(1006);
  }

  /** Whether the frame answered a request. Entries are never replies, although they may echo its id. */
  private settle(frame: Frame): boolean {
    if (frame.request_id === undefined || frame.offset !== undefined) return false;
    const pending = this.pending.get(frame.request_id);
    if (pending === undefined) return true;
    this.pending.delete(frame.request_id);
    if (frame.type === "error") pending.reject(new ServerError(frame.data));
    else pending.resolve(frame);
    return true;
  }

  private end(code: number): void {
    if (this.closed !== null) return;
    this.wire.onopen = this.wire.onmessage = this.wire.onclose = null;
    const lost = (this.closed = new ConnectionLostError(code));
    const waiting = [...this.pending.values()];
    this.pending.clear();
    this.onClose(lost);
    for (const pending of waiting) pending.reject(lost);
  }
}
