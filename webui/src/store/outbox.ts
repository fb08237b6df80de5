import { signal, type ReadonlySignal } from "@preact/signals";
import type { Link } from "../connection/link";
import { ConnectionLostError } from "../connection/socket";
import { messageOf, ServerError, type Frame } from "../wire/frame";
import { keep, recall } from "./memory";
import { isDeletedBy } from "./projects";

/** A prompt that the server has not confirmed yet. */
export interface Outgoing {
  /** Names the prompt to the server, so that it runs once however often it is sent. */
  readonly promptId: string;
  readonly conversationId: string;
  readonly prompt: string;
  /** Into the running turn, or after its interruption, rather than behind the prompts that wait. */
  readonly when?: "now" | "interrupt" | undefined;
  /** Why the server did not take it; it is not sent again by itself. */
  readonly refusal?: string;
}

const NAME = "outbox";
const RATE_LIMIT_MS = 2000;

/** Prompts on their way. They outlive a reload, and are sent in their order as soon as there is a connection. */
export class Outbox {
  private readonly waiting = signal<readonly Outgoing[]>([]);
  private readonly link: Link;
  /** The end of the queue of each conversation, so that one prompt is sent after the other. */
  private readonly last = new Map<string, Promise<void>>();

  constructor(link: Link) {
    this.link = link;
    this.waiting.value = stored();
    for (const outgoing of this.waiting.value) if (outgoing.refusal === undefined) this.enqueue(outgoing);
    addEventListener("storage", (event) => {
      if (event.key === NAME) this.waiting.value = stored();
    });
  }

  get list(): ReadonlySignal<readonly Outgoing[]> {
    return this.waiting;
  }

  send(conversationId: string, prompt: string, when?: Outgoing["when"]): void {
    const outgoing = { promptId: newId(), conversationId, prompt, when };
    this.put([...this.waiting.value, outgoing]);
    this.enqueue(outgoing);
  }

  /** Gives a prompt up that was not taken, or not sent yet. */
  discard(promptId: string): void {
    this.put(this.waiting.value.filter((outgoing) => outgoing.promptId !== promptId));
  }

  /** Sends a prompt again that was refused. */
  retry(promptId: string): void {
    const found = this.waiting.value.find((outgoing) => outgoing.promptId === promptId);
    if (found?.refusal === undefined) return;
    const { conversationId, prompt, when } = found;
    const again = { promptId, conversationId, prompt, when };
    this.put(this.waiting.value.map((outgoing) => (outgoing === found ? again : outgoing)));
    this.enqueue(again);
  }

  /** The server has a prompt when its entry is in the log, whether or not the reply came. */
  accept(frame: Frame): void {
    if (frame.type === "prompt" && typeof frame.data.prompt_id === "string") this.discard(frame.data.prompt_id);
    this.put(this.waiting.value.filter(({ conversationId }) => !isDeletedBy(frame, conversationId)));
  }

  private enqueue(outgoing: Outgoing): void {
    const before = this.last.get(outgoing.conversationId) ?? Promise.resolve();
    this.last.set(
      outgoing.conversationId,
      before.then(() => this.deliver(outgoing)),
    );
  }

  private async deliver({ promptId, conversationId, prompt, when }: Outgoing): Promise<void> {
    const isWanted = (): boolean => this.waiting.value.some((outgoing) => outgoing.promptId === promptId);
    while (isWanted()) {
      try {
        await this.link.connected();
        if (!isWanted()) return;
        const data = { prompt, prompt_id: promptId, when: when ?? "queue" } as const;
        await this.link.request("execute", data, { conversationId, timeoutMs: Infinity });
        this.discard(promptId);
      } catch (error) {
        if (error instanceof ServerError && error.code === "RATE_LIMITED") {
          await new Promise((resolve) => setTimeout(resolve, RATE_LIMIT_MS));
        } else {
          this.refuse(promptId, reasonOf(error));
          return;
        }
      }
    }
  }

  private refuse(promptId: string, refusal: string): void {
    const changed = this.waiting.value.map((outgoing) =>
      outgoing.promptId === promptId ? { ...outgoing, refusal } : outgoing,
    );
    this.put(changed);
  }

  private put(outgoing: readonly Outgoing[]): void {
    if (outgoing.length === this.waiting.value.length && outgoing.every((one, at) => one === this.waiting.value[at])) {
      return;
    }
    this.waiting.value = outgoing;
    keep(NAME, outgoing.length === 0 ? null : outgoing);
  }
}

function stored(): readonly Outgoing[] {
  const kept = recall(NAME);
  return Array.isArray(kept) ? kept.map(current).filter(isOutgoing) : [];
}

/** One that a client has kept which knew of one conversation per project. */
function current(value: unknown): unknown {
  const { projectId, ...rest } = (value ?? {}) as { readonly projectId?: unknown };
  return projectId === undefined ? value : { conversationId: projectId, ...rest };
}

function isOutgoing(value: unknown): value is Outgoing {
  const { promptId, conversationId, prompt } = (value ?? {}) as Partial<Outgoing>;
  return typeof promptId === "string" && typeof conversationId === "string" && typeof prompt === "string";
}

function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function reasonOf(error: unknown): string {
  if (error instanceof ConnectionLostError && error.closeCode === 1009) return "It is larger than the server allows.";
  return messageOf(error);
}
