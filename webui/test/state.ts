/** The state of a conversation with what a test names, the rest of an idle one. */
import type { ProjectStateData } from "../src/wire/generated";

export function projectState(state: Partial<ProjectStateData> = {}): ProjectStateData {
  return {
    id: "p",
    path: "/code/p",
    name: "p",
    state: "IDLE",
    session_id: null,
    created_at: "2026-01-01T00:00:00Z",
    last_active: "2026-01-01T00:00:00Z",
    epoch: "e",
    offset: 0,
    queue_depth: 0,
    pending_approvals: 0,
    model: null,
    permission_mode: null,
    ...state,
  };
}
