import { signal, type ReadonlySignal } from "@preact/signals";
import { messageOf } from "../wire/frame";

/** Something to say in passing. */
export interface Toast {
  readonly id: number;
  readonly tone: "plain" | "danger";
  readonly text: string;
  readonly action?: { readonly label: string; readonly run: () => void };
}

const SHOWN_MS = 6000;
const MAX = 3;

export class Toasts {
  private readonly shown = signal<readonly Toast[]>([]);
  private number = 0;

  get list(): ReadonlySignal<readonly Toast[]> {
    return this.shown;
  }

  say(text: string, action?: Toast["action"]): void {
    this.add("plain", text, action);
  }

  /** Shows an error. */
  fail(error: unknown): void {
    this.add("danger", messageOf(error));
  }

  dismiss(id: number): void {
    this.shown.value = this.shown.value.filter((toast) => toast.id !== id);
  }

  private add(tone: Toast["tone"], text: string, action?: Toast["action"]): void {
    const id = ++this.number;
    const toast = action === undefined ? { id, tone, text } : { id, tone, text, action };
    this.shown.value = [...this.shown.value.filter((other) => other.text !== text), toast].slice(-MAX);
    setTimeout(() => this.dismiss(id), SHOWN_MS);
  }
}
