import type { ComponentChildren, VNode } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import { X } from "lucide";
import { isLeaving, isSheetEntry, leaveSheetEntry, whenSettled } from "../../router";
import { Icon } from "../icon";
import "./sheet.css";

interface SheetProps {
  readonly title: string;
  readonly onClose: () => void;
  readonly children: ComponentChildren;
  /** Whether it is as high as it may be, and a part of it scrolls by itself. */
  readonly isFull?: boolean;
  /** What is done with it, at its lower end. */
  readonly actions?: ComponentChildren;
}

/** What had the focus before each sheet that is open was. */
const openers: (Element | null)[] = [];

/** Once no sheet is open any more, the focus is where it was before the first of them. */
function giveFocusBack(): void {
  setTimeout(() => {
    if (document.querySelector("dialog[open]") !== null) return;
    const opener = openers.find((element) => element?.isConnected);
    openers.length = 0;
    if (opener instanceof HTMLElement) opener.focus();
  });
}

/** Those that are open, the topmost last: the browser's back closes it, and stays on the page. */
const closers: (() => void)[] = [];

addEventListener("popstate", () => {
  if (!isLeaving() && !isSheetEntry()) closers.at(-1)?.();
});

/** Gives a sheet an entry of the history; @returns how to take it back. */
function enterHistory(close: () => void): () => void {
  closers.push(close);
  whenSettled(() => {
    if (closers.includes(close) && !isSheetEntry()) history.pushState({ sheet: true }, "");
  });
  return () => {
    closers.splice(closers.indexOf(close), 1);
    // Another sheet may follow at once, and a page that was opened from it has taken its entry.
    setTimeout(() => {
      if (closers.length === 0 && !isLeaving() && isSheetEntry()) leaveSheetEntry();
    });
  };
}

/** Something that has to be dealt with or closed before anything else: from below on a phone, in the middle elsewhere. */
export function Sheet({ title, onClose, children, isFull = false, actions }: SheetProps): VNode {
  const dialog = useRef<HTMLDialogElement>(null);
  const latest = useRef(onClose);
  latest.current = onClose;
  useLayoutEffect(() => {
    openers.push(document.activeElement);
    dialog.current?.showModal();
    const leaveHistory = enterHistory(() => latest.current());
    return () => {
      leaveHistory();
      giveFocusBack();
    };
  }, []);
  const close = (event: MouseEvent): void => {
    if (event.target === dialog.current) onClose(); // outside of it
  };
  return (
    <dialog class={isFull ? "sheet full" : "sheet"} ref={dialog} aria-label={title} onClose={onClose} onClick={close}>
      <div class="sheet-inner">
        <header class="sheet-head">
          <h2>{title}</h2>
          <button class="button quiet icon-only" type="button" aria-label="Close" onClick={onClose}>
            <Icon node={X} />
          </button>
        </header>
        {/* Where it scrolls, a keyboard has to reach it. */}
        <div class="sheet-body" tabIndex={isFull ? -1 : 0}>
          {children}
        </div>
        {actions !== undefined && <footer class="sheet-actions">{actions}</footer>}
      </div>
    </dialog>
  );
}
