import type { ComponentChildren, VNode } from "preact";
import { useEffect, useState } from "preact/hooks";
import { useStore } from "../../store/store";

interface PendingProps {
  /** What comes from the server, as the beginning of a sentence. */
  readonly what: string;
  readonly children?: ComponentChildren;
}

/** Stands where something of the server's will be: it is coming, or the server is out of reach. */
export function Pending({ what, children }: PendingProps): VNode {
  const { link } = useStore();
  const { kind } = link.status.value;
  const [isLost, setLost] = useState(kind === "waiting");
  useEffect(() => {
    // Each attempt to connect again is short, and changes nothing.
    if (kind !== "connecting") setLost(kind === "waiting");
  }, [kind]);
  if (!isLost) return <div class="spinner" role="status" aria-label={`${what}: loading`} />;
  return (
    <div class="empty">
      <h2>The server is out of reach</h2>
      <p>{what} will be here as soon as it answers. Nothing of the server&rsquo;s is kept on this device.</p>
      {children}
    </div>
  );
}
