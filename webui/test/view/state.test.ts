import { expect, test } from "vitest";
import { stateOf } from "../../src/view/projects/state";
import { projectState } from "../state";

const HOLD = { reason: "lost", message: "Why.", since: "2026-01-01T00:00:00Z", until: null } as const;

test.each([
  [{ state: "IDLE" }, "Idle"],
  [{ state: "ERROR" }, "Failed"],
  [{ state: "IDLE", queue_hold: HOLD }, "On hold"],
  [{ state: "ERROR", queue_hold: { ...HOLD, until: "2026-01-01T05:00:00Z" } }, "Paused"],
  [{ state: "EXECUTING", queue_hold: HOLD }, "Working"],
  [{ state: "IDLE", queue_hold: HOLD, pending_approvals: 1 }, "Waiting for approval"],
] as const)("%o is called %s", (state, name) => {
  expect(stateOf(projectState(state)).name).toBe(name);
});
