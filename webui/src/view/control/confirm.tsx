import type { ComponentChildren, VNode } from "preact";
import { Problem, useAttempt } from "./attempt";
import { Sheet } from "./sheet";

interface ConfirmProps {
  readonly title: string;
  readonly children: ComponentChildren;
  readonly action: string;
  /** How grave it is; what destroys is red. */
  readonly tone?: "danger" | "primary";
  /** Something else has to be done first. */
  readonly disabled?: boolean;
  /** Rejects with what is to be shown when it did not work. */
  readonly onConfirm: () => Promise<void>;
  readonly onClose: () => void;
}

/** Asks before something that cannot be taken back. */
export function Confirm(props: ConfirmProps): VNode {
  const { title, children, action, tone = "danger", disabled = false, onConfirm, onClose } = props;
  const { isBusy, problem, start } = useAttempt(async () => {
    await onConfirm();
    onClose();
  });
  return (
    <Sheet
      title={title}
      onClose={onClose}
      actions={
        <>
          <button class="button" type="button" autofocus onClick={onClose}>
            Cancel
          </button>
          <button class={`button ${tone}`} type="button" disabled={isBusy || disabled} onClick={start}>
            {action}
          </button>
        </>
      }
    >
      <div class="stack">{children}</div>
      <Problem text={problem} />
    </Sheet>
  );
}
