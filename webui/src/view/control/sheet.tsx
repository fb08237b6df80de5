import type { ComponentChildren, VNode } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { X } from "lucide";
import { Icon } from "../icon";
import "./sheet.css";

interface SheetProps {
  readonly title: string;
  readonly onClose: () => void;
  readonly children: ComponentChildren;
  /** What is done with it, at its lower end. */
  readonly actions?: ComponentChildren;
}

/** Something that has to be dealt with or closed before anything else: from below on a phone, in the middle elsewhere. */
export function Sheet({ title, onClose, children, actions }: SheetProps): VNode {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    dialog.current?.showModal();
  }, []);
  const close = (event: MouseEvent): void => {
    if (event.target === dialog.current) onClose(); // beside it, not in it
  };
  return (
    <dialog class="sheet" ref={dialog} aria-label={title} onClose={onClose} onClick={close}>
      <div class="sheet-inner">
        <header class="sheet-head">
          <h2>{title}</h2>
          <button class="button quiet icon-only" type="button" aria-label="Close" onClick={onClose}>
            <Icon node={X} />
          </button>
        </header>
        <div class="sheet-body">{children}</div>
        {actions !== undefined && <footer class="sheet-actions">{actions}</footer>}
      </div>
    </dialog>
  );
}
