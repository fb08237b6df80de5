import { createContext } from "preact";
import { useContext } from "preact/hooks";
import { computed, effect, signal, type ReadonlySignal } from "@preact/signals";
import { Link } from "../connection/link";
import type { Socket, Wire } from "../connection/socket";
import { Conversation } from "../conversation/conversation";
import { conversationOf, type Frame } from "../wire/frame";
import type { WatchData } from "../wire/generated";
import { Approvals, type Approval } from "./approvals";
import { Drafts } from "./draft";
import { OfflinePages } from "./offline";
import { Outbox } from "./outbox";
import { isStoringPages, Preferences } from "./preference";
import { isDeletedBy, Projects } from "./projects";
import { Seen } from "./seen";
import { Sessions } from "./session";
import { Toasts } from "./toast";

/** How long changes of the list of projects gather before it is stored for offline, in milliseconds. */
const STORE_MS = 500;

/** An answer to a tool request. */
export type Answer =
  | {
      readonly behavior: "allow";
      readonly updatedInput?: Readonly<Record<string, unknown>>;
      /** The values of the form of an MCP server's question. */
      readonly content?: Readonly<Record<string, unknown>>;
      readonly remember?: boolean;
    }
  | { readonly behavior: "deny"; readonly message?: string; readonly cancel?: boolean };

/** Everything that the client knows; there is one of it. */
export class Store {
  readonly link: Link;
  readonly sessions = new Sessions();
  readonly projects = new Projects();
  readonly approvals = new Approvals();
  readonly outbox: Outbox;
  readonly drafts = new Drafts();
  readonly preferences = new Preferences();
  readonly toasts = new Toasts();
  readonly seen = new Seen();
  readonly offline = new OfflinePages(() => isStoringPages() && this.sessions.current.peek().kind !== "unpaired");
  /** Whether this device is not view-only. */
  readonly mayAct: ReadonlySignal<boolean> = computed(() => {
    const session = this.sessions.current.value;
    return session.kind === "paired" ? session.device.view_only !== true : this.mightAct.value;
  });
  /** Whether this device is not limited to some projects. */
  readonly seesAll: ReadonlySignal<boolean> = computed(() => {
    const session = this.sessions.current.value;
    return session.kind !== "paired" || (session.device.projects ?? null) === null;
  });
  /** Whether what concerns the whole server is this device's business, too. */
  readonly mayOwn: ReadonlySignal<boolean> = computed(() => this.mayAct.value && this.seesAll.value);
  /** Whether this device may act, as long as the server has not said so. */
  private readonly mightAct = signal(true);
  private readonly opened = signal<Conversation | null>(null);
  private readonly isAway = signal(false);

  /** @param connect begins a WebSocket of this path. */
  constructor(connect: (path: string) => Wire) {
    this.link = new Link(() => this.sessions.open(connect));
    this.outbox = new Outbox(this.link);
    this.link.onFrame((frame) => this.accept(frame));
    this.link.onOpen((socket) => this.watch(socket));
    effect(() => {
      const status = this.link.status.value;
      if (status.kind === "refused") this.sessions.refused(status.reason);
    });
    effect(() => {
      const session = this.sessions.current.value;
      if (session.kind === "paired") this.link.start();
      else if (session.kind === "unpaired") this.link.stop();
    });
    effect(() => {
      const isOut = this.sessions.current.value.kind === "unpaired";
      if (isOut || !this.preferences.offlinePages.value) void this.offline.wipe();
    });
    let storing: ReturnType<typeof setTimeout> | undefined;
    effect(() => {
      if (!this.projects.loaded.value || !this.preferences.offlinePages.value) return;
      const [conversations, mayAct] = [this.projects.conversations.value, this.mayAct.value];
      clearTimeout(storing);
      storing = setTimeout(() => this.offline.putList(conversations, mayAct), STORE_MS);
    });
    effect(() => {
      if (this.projects.loaded.value) this.seen.follow(this.projects.conversations.value);
      const opened = this.projects.get(this.opened.value?.id ?? "");
      if (opened !== undefined && !this.isAway.value) this.seen.mark(opened);
    });
  }

  /** The conversation that is open, if one is. */
  get conversation(): ReadonlySignal<Conversation | null> {
    return this.opened;
  }

  /** Comes in, when this browser may. */
  async enter(): Promise<void> {
    void this.offline.list().then((stored) => {
      if (stored === null || this.projects.loaded.value) return;
      this.projects.restore(stored.projects, stored.at);
      this.mightAct.value = stored.mayAct;
    });
    await this.sessions.refresh();
    // Without an answer the WebSocket decides: the server may be restarting.
    if (this.sessions.current.value.kind === "unknown") this.link.start();
  }

  /** Reports to the server whether the page is visible; while none is, it sends notifications. */
  setAway(isAway: boolean): void {
    if (isAway === this.isAway.peek()) return;
    this.isAway.value = isAway;
    if (this.link.socketNow !== null) this.watch(this.link.socketNow);
  }

  /** Opens a conversation in place of the one that was open. */
  open(conversationId: string): Conversation {
    this.close();
    const conversation = new Conversation(this.link, conversationId, this.approvals, this.offline);
    this.opened.value = conversation;
    conversation.start();
    return conversation;
  }

  close(): void {
    const conversation = this.opened.value;
    if (conversation === null) return;
    this.opened.value = null;
    const wasBehind = conversation.stop();
    // While it was catching up, it heard nothing of what is now.
    if (wasBehind && this.link.socketNow !== null) this.watch(this.link.socketNow);
  }

  /**
   * Answers a tool request.
   *
   * @throws Error when the server refused it, such as when another device was first.
   */
  async answer(approval: Approval, answer: Answer): Promise<void> {
    this.approvals.answering(approval.id);
    const data = { approval_id: approval.id, behavior: answer.behavior };
    const more =
      answer.behavior === "deny"
        ? { message: answer.message ?? null, cancel: answer.cancel ?? false }
        : {
            updated_input: answer.updatedInput ?? null,
            remember: answer.remember ?? false,
            content: answer.content ?? null,
          };
    try {
      const reply = await this.link.request(
        "approval_respond",
        { ...data, ...more },
        { conversationId: approval.conversationId },
      );
      this.approvals.end(approval.id, reply);
    } catch (error) {
      this.approvals.answering(approval.id, { undo: true });
      throw error;
    }
  }

  private watch(socket: Socket): void {
    const take = (): void => undefined;
    const data = { away: this.isAway.peek(), announce: true, conversations: true };
    socket.request("watch", data, undefined, (reply) => this.watched(reply)).then(take, take); // where the connection ends first, the next one asks again
  }

  private accept(frame: Frame): void {
    if (frame.type === "watch") {
      // The connection was too slow for each change; this is how things are now.
      this.watched(frame.data);
      return;
    }
    this.projects.accept(frame);
    this.outbox.accept(frame);
    const opened = this.opened.value?.id;
    // Those of the open one come with its log, unless it is gone.
    if (conversationOf(frame) !== opened || isDeletedBy(frame, opened ?? "")) this.approvals.accept(frame);
  }

  private watched({ projects, conversations = [], approvals }: WatchData): void {
    this.projects.replace([...projects, ...conversations]);
    this.approvals.replace(approvals);
  }
}

const Context = createContext<Store | null>(null);

export const StoreProvider = Context.Provider;

/** The store, inside the application. */
export function useStore(): Store {
  const store = useContext(Context);
  if (store === null) throw new Error("There is no store here.");
  return store;
}
