import { effect, signal, type Signal } from "@preact/signals";
import { keep, recall } from "./memory";

export const TEXT_SIZES: readonly number[] = [90, 100, 115, 130, 150];

const OFFLINE_PAGES = "offline-pages";

export type Theme = "system" | "light" | "dark";

/** What a person has chosen for this browser. */
export class Preferences {
  readonly theme: Signal<Theme> = kept("theme", isTheme, "system");
  /** Of text, in percent of what the browser is set to. */
  readonly textSize: Signal<number> = kept("text-size", isSize, 100);
  /** Whether single letters are shortcuts where nothing is typed. */
  readonly shortcuts: Signal<boolean> = kept("shortcuts", isBoolean, true);
  /** Whether the Enter key sends a prompt; on a touch screen it never does. */
  readonly enterSends: Signal<boolean> = kept("enter-sends", isBoolean, true);
  /** Whether to show system notifications while the page is hidden. */
  readonly notifications: Signal<boolean> = kept("notifications", isBoolean, false);
  /** Whether the newest page of each conversation is stored in this browser. */
  readonly offlinePages: Signal<boolean> = kept(OFFLINE_PAGES, isBoolean, false);
}

/** Whether pages are stored at this moment, as chosen in any tab. */
export function isStoringPages(): boolean {
  return recall(OFFLINE_PAGES) === true;
}

function kept<Value>(name: string, isValid: (value: unknown) => value is Value, fallback: Value): Signal<Value> {
  const before = recall(name);
  const value = signal(isValid(before) ? before : fallback);
  let first = true;
  effect(() => {
    const now = value.value;
    if (!first) keep(name, now === fallback ? null : now);
    first = false;
  });
  return value;
}

function isTheme(value: unknown): value is Theme {
  return value === "system" || value === "light" || value === "dark";
}

function isSize(value: unknown): value is number {
  return typeof value === "number" && TEXT_SIZES.includes(value);
}

function isBoolean(value: unknown): value is boolean {
  return typeof value === "boolean";
}
