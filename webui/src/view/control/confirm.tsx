import type { ComponentChildren, VNode } from "preact";
import { useState } from "preact/hooks";
import { Sheet } from "./sheet";

interface ConfirmProps {
  readonly title: string;
  readonly children: ComponentChildren;
  readonly action: string;
  /** How grave it is; what destroys is red. */
  readonly tone?: "danger" | "primary";
  /** Rejects with what is to be shown when it did not work. */
  readonly onConfirm: () => Promise<void>;
  readonly onClose: () => void;
}

/** Asks before something that cannot be taken back. */
export function Confirm({ title, children, action, tone = "danger", onConfirm, onClose }: ConfirmProps): VNode {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");
  const confirm = async (): Promise<void> => {
    setBusy(true);
    try {
      await onConfirm();
      onClose();
    } catch (error) {
      setProblem(error instanceof Error ? error.message : String(error));
      setBusy(false);
    }
  };
  return (
    <Sheet
      title={title}
      onClose={onClose}
      actions={
        <>
          <button class="button" type="button" autofocus onClick={onClose}>
            Cancel
          </button>
          <button class={`button ${tone}`} type="button" disabled={busy} onClick={() => void confirm()}>
            {action}
          </button>
        </>
      }
    >
      <div>{children}</div>
      {problem !== "" && (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
    </Sheet>
  );
}
