import type { VNode } from "preact";
import { useEffect, useState } from "preact/hooks";
import { navigate } from "../../router";
import { useStore } from "../../store/store";
import { Sheet } from "../control/sheet";

interface Shortcut {
  readonly key: string;
  readonly about: string;
  readonly run: () => void;
}

/** What single letters do where nothing is typed. */
const SHORTCUTS: readonly Shortcut[] = [
  { key: "/", about: "Write a prompt, or search the projects", run: () => focus('[data-focus="main"]') },
  { key: "a", about: "Allow what the agent asks for", run: () => press(".dock .allow") },
  { key: "d", about: "Deny it, and say why", run: () => press(".dock .deny") },
  { key: "s", about: "Stop the agent", run: () => press('[data-action="interrupt"]') },
  { key: "e", about: "To the newest entry", run: () => press(".jump") },
  { key: "p", about: "To the projects", run: () => navigate("/") },
];

const ALWAYS = [
  { key: "Enter", about: "Send the prompt" },
  { key: "Shift Enter", about: "A new line in the prompt" },
  { key: "Ctrl Enter", about: "Send the prompt, whatever Enter is set to" },
  { key: "Esc", about: "Close, or leave the field" },
] as const;

/** Listens for shortcuts, and lists them when somebody asks. */
export function Shortcuts(): VNode | null {
  const { preferences } = useStore();
  const [isOpen, setOpen] = useState(false);
  useEffect(() => {
    const onKeyDown = (event: KeyboardEvent): void => {
      if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
      const isWriting = isField(event.target);
      if (event.key === "Escape" && isWriting && !isInDialog(event.target)) {
        (event.target as HTMLElement).blur();
        return;
      }
      if (isWriting || isInDialog(event.target) || !preferences.shortcuts.peek()) return;
      const shortcut = SHORTCUTS.find(({ key }) => key === event.key);
      if (shortcut !== undefined) {
        event.preventDefault();
        shortcut.run();
      } else if (event.key === "?") setOpen(true);
    };
    addEventListener("keydown", onKeyDown);
    return () => removeEventListener("keydown", onKeyDown);
  }, []);
  if (!isOpen) return null;
  return (
    <Sheet title="Keyboard shortcuts" onClose={() => setOpen(false)}>
      <dl class="shortcuts">
        {[...ALWAYS, ...SHORTCUTS, { key: "?", about: "This list" }].map(({ key, about }) => (
          <div key={key}>
            <dt>
              {key.split(" ").map((part) => (
                <kbd key={part}>{part}</kbd>
              ))}
            </dt>
            <dd>{about}</dd>
          </div>
        ))}
      </dl>
    </Sheet>
  );
}

function isField(target: EventTarget | null): boolean {
  return target instanceof Element && target.matches("input, textarea, select, [contenteditable]");
}

function isInDialog(target: EventTarget | null): boolean {
  return target instanceof Element && target.closest("dialog") !== null;
}

function focus(selector: string): void {
  document.querySelector<HTMLElement>(selector)?.focus();
}

function press(selector: string): void {
  document.querySelector<HTMLElement>(selector)?.click();
}
