import type { DeviceData } from "../wire/generated";

/** This device first, then connected ones, then by the time of the last connection, never connected ones last. */
export function inOrder(devices: readonly DeviceData[]): readonly DeviceData[] {
  return [...devices].sort(
    (one, two) =>
      Number(two.current) - Number(one.current) ||
      Number(two.connections > 0) - Number(one.connections > 0) ||
      (two.last_seen ?? "").localeCompare(one.last_seen ?? "") ||
      two.created_at.localeCompare(one.created_at) ||
      one.name.localeCompare(two.name),
  );
}

/** The devices that came in by pairing codes of one device, and by codes of those. */
export function letInBy(devices: readonly DeviceData[], id: string): readonly DeviceData[] {
  const direct = devices.filter((device) => device.paired_by === id && device.id !== id);
  const rest = devices.filter((device) => device.paired_by !== id);
  return direct.flatMap((device) => [device, ...letInBy(rest, device.id)]);
}

/** Which projects a device sees, by their names; null for all. One that is gone has no name any more. */
export function seenProjects(
  { projects }: Pick<DeviceData, "projects">,
  nameOf: (id: string) => string | undefined,
): readonly string[] | null {
  if (projects === null) return null;
  return projects.map(nameOf).filter((name) => name !== undefined);
}
