import type { DeviceData } from "../../src/wire/generated";

/** A device that has never connected, but for what is told of it. */
export function device(name: string, told: Partial<DeviceData> = {}): DeviceData {
  return {
    id: name,
    name,
    view_only: false,
    projects: null,
    created_at: "2026-01-01T00:00:00.000Z",
    last_seen: null,
    last_address: null,
    connections: 0,
    current: false,
    paired_by: null,
    queued: 0,
    running: [],
    credential: "token",
    bound: false,
    ...told,
  };
}
