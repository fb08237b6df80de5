import type { VNode } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Brain, LoaderCircle } from "lucide";
import type { Conversation } from "../../conversation/conversation";
import { formatClock } from "../../text/format";
import { Icon } from "../icon";
import { LiveMarkdown } from "../text/markdown";
import { toolOf } from "../tool/tool";

/** What the agent is doing at this moment; it is not in the log yet. */
export function LiveView({ conversation }: { readonly conversation: Conversation }): VNode | null {
  const block = conversation.live.current.value;
  if (block === null) return null;
  if (block.kind === "tool") return <p class="live-line">Preparing: {toolOf(block.text).label} …</p>;
  if (block.text === "") return null;
  if (block.kind === "text") {
    return (
      <div class="said live">
        <LiveMarkdown text={block.text} />
      </div>
    );
  }
  return (
    <p class="live-line thinking">
      <Icon node={Brain} size={16} />
      <span>{block.text.slice(-240)}</span>
    </p>
  );
}

/** The time, in milliseconds, each second. */
export function useNow(): number {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, []);
  return now;
}

/** That the agent works, and for how long. */
export function Working({ since, waits }: { readonly since: string | null; readonly waits: boolean }): VNode {
  const now = useNow();
  const seconds = since === null ? null : (now - new Date(since).getTime()) / 1000;
  return (
    <p class="at-work">
      <Icon node={LoaderCircle} size={16} class={waits ? "" : "turning"} />
      {waits ? "Waiting for your answer" : "Working"}
      {seconds !== null && <span class="clock">{formatClock(seconds)}</span>}
    </p>
  );
}
