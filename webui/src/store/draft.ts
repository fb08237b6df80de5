import { signal, type ReadonlySignal, type Signal } from "@preact/signals";
import { keep, recall } from "./memory";

/** Longer ones are not kept over a reload: the browser has some megabytes for everything. */
const MAX_CHARACTERS = 200_000;
const PAUSE_MS = 250;

/** What was typed and not sent, by conversation; it survives a reload. */
export class Drafts {
  private readonly timers = new Map<string, ReturnType<typeof setTimeout>>();
  private readonly texts = new Map<string, Signal<string>>();

  constructor() {
    addEventListener("pagehide", () => {
      for (const conversationId of this.timers.keys()) this.write(conversationId);
    });
  }

  textOf(conversationId: string): ReadonlySignal<string> {
    return this.signalOf(conversationId);
  }

  put(conversationId: string, text: string): void {
    this.signalOf(conversationId).value = text;
    clearTimeout(this.timers.get(conversationId));
    this.timers.set(
      conversationId,
      setTimeout(() => this.write(conversationId), PAUSE_MS),
    );
  }

  /** Puts a text before what was typed. */
  prepend(conversationId: string, text: string): void {
    const typed = this.signalOf(conversationId).value;
    this.put(conversationId, typed === "" ? text : `${text}\n\n${typed}`);
  }

  private signalOf(conversationId: string): Signal<string> {
    let text = this.texts.get(conversationId);
    if (text === undefined) {
      const kept = recall(nameOf(conversationId));
      text = signal(typeof kept === "string" ? kept : "");
      this.texts.set(conversationId, text);
    }
    return text;
  }

  private write(conversationId: string): void {
    clearTimeout(this.timers.get(conversationId));
    this.timers.delete(conversationId);
    const text = this.signalOf(conversationId).value;
    keep(nameOf(conversationId), text === "" || text.length > MAX_CHARACTERS ? null : text);
  }
}

function nameOf(conversationId: string): string {
  return `draft ${conversationId}`;
}
