/** The envelopes of both directions; see docs/protocol.md. */
import type { ErrorCode, ErrorData, Pushes } from "./generated";

export interface ClientFrame {
  readonly type: string;
  readonly conversation_id?: string;
  readonly request_id: string;
  readonly data: object;
}

interface Envelope<Kind extends string, Data> {
  readonly type: Kind;
  readonly project_id?: string;
  /** Of a conversation that is not the main one of its project. */
  readonly conversation_id?: string;
  readonly timestamp: string;
  readonly request_id?: string;
  /** Set on entries of a project's log only. */
  readonly offset?: number;
  /** Of an entry of which `data` is only a preview: the bytes of the whole, and where something is missing. */
  readonly size?: number;
  readonly cut?: readonly string[];
  readonly data: Data;
}

export type Frame = { [Kind in keyof Pushes]: Envelope<Kind, Pushes[Kind]> }[keyof Pushes];

/** The conversation that a frame is about, if any; the main one has the id of its project. */
export function conversationOf(frame: Frame): string | undefined {
  return frame.conversation_id ?? frame.project_id;
}

export type FrameOf<Kind extends keyof Pushes> = Extract<Frame, { readonly type: Kind }>;

/** A frame, or null if the text is not one; the caller ignores unknown types. */
export function readFrame(text: string): Frame | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof value !== "object" || value === null) return null;
  const { type, data } = value as { type?: unknown; data?: unknown };
  if (typeof type !== "string" || typeof data !== "object" || data === null) return null;
  return value as Frame;
}

/** An `error` that answered a request. */
export class ServerError extends Error {
  readonly code: ErrorCode;
  readonly details: Readonly<Record<string, unknown>>;

  constructor(data: ErrorData) {
    super(data.message);
    this.name = "ServerError";
    this.code = data.code;
    this.details = data.details ?? {};
  }
}

/** The message of a thrown value for a user. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
