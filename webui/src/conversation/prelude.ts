import type { Link } from "../connection/link";
import { ServerError } from "../wire/frame";
import type { SessionHistoryData } from "../wire/generated";
import { entriesOf, type RawEntry } from "./entry";
import { number, record, text } from "./reading";
import { SESSION_PAGE, WHOLE_RECORD } from "./session_reader";

/**
 * The history that a conversation begins with: the records of a session before a position in its file. A record at the
 * position P is an entry with the offset P - end, which precedes every entry of the log.
 */
export class Prelude {
  private readonly link: Link;
  private readonly conversationId: string;
  private readonly sessionId: string;
  private readonly end: number;
  /** Before which position the next older page ends, and the oldest offset at that time. */
  private reached: { readonly before: number; readonly first: number };

  private constructor(link: Link, conversationId: string, sessionId: string, end: number, first: number) {
    this.link = link;
    this.conversationId = conversationId;
    this.sessionId = sessionId;
    this.end = end;
    this.reached = { before: end, first };
  }

  /** What precedes an entry, if that continues a session whose file the server knows. */
  static before(entry: RawEntry | undefined, link: Link, conversationId: string): Prelude | null {
    if (entry?.type !== "session_resumed") return null;
    const { session_id, end } = record(entry.data);
    const position = number(end);
    return position === null ? null : new Prelude(link, conversationId, text(session_id), position, entry.offset);
  }

  /** Whether a page of the oldest records has come. */
  get isComplete(): boolean {
    return this.reached.before === 0;
  }

  /** The page before the oldest entry in memory; where the session is gone, an entry that says so. */
  async older(first: number): Promise<readonly RawEntry[]> {
    // The oldest records leave the memory when many entries come.
    const before = first === this.reached.first ? this.reached.before : Math.min(0, first) + this.end;
    let entries: RawEntry[];
    let next = 0;
    try {
      const page = await this.ask({ ...SESSION_PAGE, before });
      [entries, next] = [this.placed(page), page.before];
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      const message = "The turns before this are gone: Claude Code no longer has the session.";
      const place = { offset: Math.min(0, first) - 1, timestamp: new Date().toISOString() };
      entries = [{ ...place, type: "error", data: { code: error.code, message } }];
    }
    this.reached = { before: next, first: entries[0]?.offset ?? first };
    return entries;
  }

  /** An entry as a whole, that precedes the entry `next`. */
  async whole(next: number | undefined): Promise<readonly RawEntry[]> {
    return this.placed(await this.ask({ ...WHOLE_RECORD, before: Math.min(0, next ?? 0) + this.end }));
  }

  private ask(data: (typeof SESSION_PAGE | typeof WHOLE_RECORD) & { before: number }): Promise<SessionHistoryData> {
    const session_id = this.sessionId;
    return this.link.request("session_history", { ...data, session_id }, { conversationId: this.conversationId });
  }

  private placed(page: SessionHistoryData): RawEntry[] {
    return entriesOf(page).map((entry) => ({ ...entry, offset: entry.offset - this.end }));
  }
}
