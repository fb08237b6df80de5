import type { ProjectStateData } from "../../wire/generated";

export interface ShownState {
  readonly name: string;
  readonly tone: "idle" | "working" | "waiting" | "failed";
}

/** How a project is, in a word for a person. */
export function stateOf({ state, pending_approvals, queue_hold }: ProjectStateData): ShownState {
  if (pending_approvals > 0) return { name: "Waiting for approval", tone: "waiting" };
  if (state === "EXECUTING") return { name: "Working", tone: "working" };
  if (queue_hold) return { name: queue_hold.until ? "Paused" : "On hold", tone: "waiting" };
  if (state === "ERROR") return { name: "Failed", tone: "failed" };
  return { name: "Idle", tone: "idle" };
}
