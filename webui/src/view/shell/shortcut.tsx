import type { VNode } from "preact";
import { useEffect, useState } from "preact/hooks";
import { navigate } from "../../router";
import { useStore } from "../../store/store";
import { Sheet } from "../control/sheet";

interface Shortcut {
  readonly key: string;
  readonly about: string;
  /** What it presses, or what it does. */
  readonly on: string | (() => void);
  /** For what cannot be taken back: what a second press does. */
  readonly again?: string;
}

/** What single letters do where nothing is typed. */
const SHORTCUTS: readonly Shortcut[] = [
  { key: "/", about: "Write a prompt, or search the projects", on: () => focus('[data-focus="main"]') },
  { key: "a", about: "Allow the request", on: ".dock-request:not([hidden]) .allow", again: "allow it" },
  { key: "d", about: "Deny it with a reason", on: ".dock-request:not([hidden]) .deny" },
  { key: "s", about: "Stop the agent", on: '[data-action="interrupt"]', again: "stop the agent" },
  { key: "e", about: "To the newest entry", on: ".jump" },
  { key: "c", about: "To the other conversations of the project", on: '[data-action="conversations"]' },
  { key: "p", about: "To the projects", on: () => navigate("/") },
];

const ALWAYS = [
  { key: "Enter", about: "Send the prompt" },
  { key: "Shift Enter", about: "New line in the prompt" },
  { key: "Ctrl Enter", about: "Always send the prompt" },
  { key: "Esc", about: "Close, or leave the field" },
] as const;

/** Milliseconds after typing or leaving a field in which a key may still be typing. */
const TYPING_MS = 1000;
/** A second press counts between these; a letter that is doubled in a word comes sooner. */
const AGAIN_MS = [250, 4000] as const;

/** The first of two presses: of which key, when, and for which button, which another request replaces. */
interface Armed {
  readonly key: string;
  readonly at: number;
  readonly button: Element;
}

/** Listens for shortcuts, and lists them on request. */
export function Shortcuts(): VNode | null {
  const { preferences, toasts } = useStore();
  const [isOpen, setOpen] = useState(false);
  useEffect(() => {
    let typed = -Infinity;
    let ran = -Infinity;
    let armed: Armed | null = null;

    /** Records that a key was a shortcut, and so no letter of a text that would suppress the next one. */
    const done = (now: number): true => {
      typed = -Infinity;
      ran = now;
      return true;
    };
    /** Presses a button, for a shortcut with `again` only at the second key. */
    const press = (button: HTMLElement, { key, again }: Shortcut, now: number): boolean => {
      if (again === undefined) {
        button.click();
        return done(now);
      }
      if (now - ran < TYPING_MS) return false;
      armed = { key, at: now, button };
      toasts.say(`Press ${key} again to ${again}.`);
      return true; // the letter may still be the first of a text
    };
    const run = (shortcut: Shortcut, now: number, isTyping: boolean): boolean => {
      const { key, on } = shortcut;
      const before = armed;
      armed = null;
      if (typeof on !== "string") {
        if (isTyping && key !== "/") return false;
        on();
        return isTyping || done(now);
      }
      const button = document.querySelector<HTMLElement>(on);
      if (button === null) return false;
      if (before?.key === key && before.button === button) {
        const passed = now - before.at;
        if (passed < AGAIN_MS[0] || passed > AGAIN_MS[1]) return false;
        button.click();
        return done(now);
      }
      return !isTyping && press(button, shortcut, now);
    };

    const onKeyDown = (event: KeyboardEvent): void => {
      const now = Date.now();
      const isTyping = now - typed < TYPING_MS;
      const { target } = event;
      if (isText(event)) typed = now;
      if (isTaken(event)) return;
      const isWriting = isField(target);
      if (event.key === "Escape" && isWriting && !isInDialog(target)) {
        (target as HTMLElement).blur();
        return;
      }
      if (isWriting || isInDialog(target) || event.repeat || !preferences.shortcuts.peek()) return;
      const shortcut = SHORTCUTS.find(({ key }) => key === event.key);
      if (shortcut === undefined) {
        armed = null;
        if (event.key === "?") setOpen(true);
      } else if (run(shortcut, now, isTyping)) event.preventDefault();
    };
    const onLeave = ({ target }: FocusEvent): void => {
      if (isField(target)) typed = Date.now();
    };
    addEventListener("keydown", onKeyDown);
    addEventListener("focusout", onLeave);
    return () => {
      removeEventListener("keydown", onKeyDown);
      removeEventListener("focusout", onLeave);
    };
  }, []);
  if (!isOpen) return null;
  return (
    <Sheet title="Keyboard shortcuts" onClose={() => setOpen(false)}>
      <dl class="shortcuts">
        {[...ALWAYS, ...SHORTCUTS, { key: "?", about: "This list" }].map(({ key, about, ...more }) => (
          <div key={key}>
            <dt>
              {`${key}${"again" in more ? ` ${key}` : ""}`.split(" ").map((part, at) => (
                <kbd key={at}>{part}</kbd>
              ))}
            </dt>
            <dd>{about}</dd>
          </div>
        ))}
      </dl>
      <p class="hint">Letters do nothing in a field, nor within a second of typing.</p>
    </Sheet>
  );
}

/** Whether a key is not a shortcut: it was handled, belongs to the browser, or is part of a character. */
function isTaken(event: KeyboardEvent): boolean {
  return event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.isComposing;
}

/** How soon after a composition the key that ended it may still come, as it does in Safari. */
const COMPOSED_MS = 80;

/** Keeps an Enter that ends the composition of characters (Japanese, Chinese, Korean) from meaning anything else. */
export function guardComposition(): void {
  let ended = -Infinity;
  addEventListener("compositionend", () => (ended = Date.now()), true);
  addEventListener(
    "keydown",
    (event) => {
      if (event.key !== "Enter") return;
      const isJustOver = Date.now() - ended < COMPOSED_MS;
      // eslint-disable-next-line @typescript-eslint/no-deprecated -- Safari has no other way
      if (!event.isComposing && event.keyCode !== 229 && !isJustOver) return;
      event.stopImmediatePropagation();
      if (isJustOver) event.preventDefault(); // neither a new line nor the form
    },
    true,
  );
}

/** Whether a key may be typing: it is a character, and neither one with Ctrl or Cmd nor the Space that presses a control. */
function isText({ key, ctrlKey, metaKey, altKey, target }: KeyboardEvent): boolean {
  if (key.length !== 1 || metaKey || (ctrlKey && !altKey)) return false; // Ctrl and Alt together are AltGr
  return key !== " " || !(target instanceof Element) || isField(target) || !target.matches(PRESSED);
}

/** What Space presses, and what has no letters. */
const PRESSED = "button, summary, input[type=checkbox], input[type=radio]";

function isField(target: EventTarget | null): boolean {
  const fields = "input, textarea, select, [contenteditable]";
  return target instanceof Element && target.matches(fields) && !target.matches(PRESSED);
}

function isInDialog(target: EventTarget | null): boolean {
  return target instanceof Element && target.closest("dialog") !== null;
}

function focus(selector: string): void {
  document.querySelector<HTMLElement>(selector)?.focus();
}
