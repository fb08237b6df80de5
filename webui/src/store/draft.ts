import { signal, type ReadonlySignal, type Signal } from "@preact/signals";
import { keep, recall } from "./memory";

/** Longer ones are not kept over a reload: the browser has some megabytes for everything. */
const MAX_CHARACTERS = 200_000;
const PAUSE_MS = 250;

/** What was typed and not sent, by project; it survives a reload. */
export class Drafts {
  private readonly timers = new Map<string, ReturnType<typeof setTimeout>>();
  private readonly texts = new Map<string, Signal<string>>();

  constructor() {
    addEventListener("pagehide", () => {
      for (const projectId of this.timers.keys()) this.write(projectId);
    });
  }

  textOf(projectId: string): ReadonlySignal<string> {
    return this.signalOf(projectId);
  }

  put(projectId: string, text: string): void {
    this.signalOf(projectId).value = text;
    clearTimeout(this.timers.get(projectId));
    this.timers.set(
      projectId,
      setTimeout(() => this.write(projectId), PAUSE_MS),
    );
  }

  private signalOf(projectId: string): Signal<string> {
    let text = this.texts.get(projectId);
    if (text === undefined) {
      const kept = recall(nameOf(projectId));
      text = signal(typeof kept === "string" ? kept : "");
      this.texts.set(projectId, text);
    }
    return text;
  }

  private write(projectId: string): void {
    clearTimeout(this.timers.get(projectId));
    this.timers.delete(projectId);
    const text = this.signalOf(projectId).value;
    keep(nameOf(projectId), text === "" || text.length > MAX_CHARACTERS ? null : text);
  }
}

function nameOf(projectId: string): string {
  return `draft ${projectId}`;
}
