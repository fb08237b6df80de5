import type { DeviceData, PairingStart } from "../wire/generated";

/** What a new device will be called, null where it says so itself, and what it may do; no projects: all. */
export type Wish = Required<Pick<PairingStart, "name" | "view_only" | "projects">>;

/** The device that came by a code: one that was not there before, and is what the code makes of it. */
export function guestOf(
  devices: readonly DeviceData[],
  before: ReadonlySet<string>,
  wish: Wish,
): DeviceData | undefined {
  return devices.find((device) => !before.has(device.id) && fits(device, wish));
}

function fits(device: DeviceData, { name, view_only, projects }: Wish): boolean {
  if (device.view_only !== view_only || !isSame(device.projects, projects)) return false;
  // A name that is taken gets a number.
  return name === null || device.name === name || device.name.startsWith(`${name} `);
}

function isSame(one: readonly string[] | null, two: readonly string[] | null): boolean {
  if (one === null || two === null) return one === two;
  return one.length === two.length && one.every((id) => two.includes(id));
}

/** An address without the code in it. */
export function baseOf(url: string): string {
  return url.replace(/\/pair#.*$/, "");
}

/** Whether an address leads every device to itself, so that no other one gets to the server by it. */
export function isLoopback(url: string): boolean {
  const { hostname } = new URL(url);
  return /^(?:localhost|.*\.localhost|127(?:\.\d+){3}|\[::1\])$/.test(hostname);
}
