import type { VNode } from "preact";
import { useStore } from "../../store/store";

/** Says when what is shown is not live. */
export function Banner(): VNode | null {
  const { link } = useStore();
  const status = link.status.value;
  if (status.kind === "online" || status.kind === "refused") return null;
  if (status.kind === "connecting") return null;
  return (
    <div class="connection" role="status">
      <span>Offline. {status.reason} Connecting again…</span>
      <button class="button small" type="button" onClick={() => link.retry()}>
        Try now
      </button>
    </div>
  );
}
