import type { ComponentChildren, VNode } from "preact";
import { useEffect, useState } from "preact/hooks";
import { useStore } from "../../store/store";
import { formatFullTime } from "../../text/format";

interface PendingProps {
  /** What comes from the server, as the beginning of a sentence. */
  readonly what: string;
  readonly children?: ComponentChildren;
}

/** A placeholder for data of the server that is loading, or missing because the server is unreachable. */
export function Pending({ what, children }: PendingProps): VNode {
  const { link, preferences } = useStore();
  const { kind } = link.status.value;
  const [isLost, setLost] = useState(kind === "waiting");
  useEffect(() => {
    // Each attempt to connect again is short, and changes nothing.
    if (kind !== "connecting") setLost(kind === "waiting");
  }, [kind]);
  if (!isLost) return <div class="spinner" role="status" aria-label={`${what}: loading`} />;
  return (
    <div class="empty">
      <h2>The server is unreachable</h2>
      <p>
        {what} will be here as soon as it answers.{" "}
        {preferences.offlinePages.value ? "It" : "Nothing of the server\u2019s"} is not stored in this browser.
      </p>
      {children}
    </div>
  );
}

/** Says since when what is shown is not the server's, but was stored in this browser. */
export function AsOf({ at }: { readonly at: string | null }): VNode | null {
  if (at === null) return null;
  return (
    <p class="as-of" role="status">
      Offline, as of {formatFullTime(at)}
    </p>
  );
}
