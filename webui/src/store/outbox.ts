import { signal, type ReadonlySignal } from "@preact/signals";
import type { Link } from "../connection/link";
import { ConnectionLostError } from "../connection/socket";
import { messageOf, ServerError, type Frame } from "../wire/frame";
import { keep, recall } from "./memory";

/** A prompt that the server has not confirmed yet. */
export interface Outgoing {
  /** Names the prompt to the server, so that it runs once however often it is sent. */
  readonly promptId: string;
  readonly projectId: string;
  readonly prompt: string;
  /** Why the server did not take it; it is not sent again by itself. */
  readonly refusal?: string;
}

const NAME = "outbox";
const RATE_LIMIT_MS = 2000;

/** Prompts on their way. They outlive a reload, and are sent in their order as soon as there is a connection. */
export class Outbox {
  private readonly waiting = signal<readonly Outgoing[]>([]);
  private readonly link: Link;
  /** The end of the queue of each project, so that one prompt is sent after the other. */
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

  send(projectId: string, prompt: string): void {
    const outgoing = { promptId: newId(), projectId, prompt };
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
    const { projectId, prompt } = found;
    const again = { promptId, projectId, prompt };
    this.put(this.waiting.value.map((outgoing) => (outgoing === found ? again : outgoing)));
    this.enqueue(again);
  }

  /** The server has a prompt when its entry is in the log, whether or not the reply came. */
  accept(frame: Frame): void {
    if (frame.type === "prompt" && typeof frame.data.prompt_id === "string") this.discard(frame.data.prompt_id);
    if (frame.type === "project_deleted") {
      this.put(this.waiting.value.filter(({ projectId }) => projectId !== frame.data.project_id));
    }
  }

  private enqueue(outgoing: Outgoing): void {
    const before = this.last.get(outgoing.projectId) ?? Promise.resolve();
    this.last.set(
      outgoing.projectId,
      before.then(() => this.deliver(outgoing)),
    );
  }

  private async deliver({ promptId, projectId, prompt }: Outgoing): Promise<void> {
    const isWanted = (): boolean => this.waiting.value.some((outgoing) => outgoing.promptId === promptId);
    while (isWanted()) {
      try {
        await this.link.connected();
        if (!isWanted()) return;
        await this.link.request("execute", { prompt, prompt_id: promptId }, { projectId, timeoutMs: Infinity });
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
  return Array.isArray(kept) ? kept.filter(isOutgoing) : [];
}

function isOutgoing(value: unknown): value is Outgoing {
  const { promptId, projectId, prompt } = (value ?? {}) as Partial<Outgoing>;
  return typeof promptId === "string" && typeof projectId === "string" && typeof prompt === "string";
}

function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function reasonOf(error: unknown): string {
  if (error instanceof ConnectionLostError && error.closeCode === 1009) return "It is larger than the server allows.";
  return messageOf(error);
}
