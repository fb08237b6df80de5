import { computed, signal, type ReadonlySignal } from "@preact/signals";
import { ConnectionLostError } from "../connection/socket";
import type { Link } from "../connection/link";
import { messageOf } from "../wire/frame";
import type { DeviceData, DeviceRevokedData, DeviceRotatedData, PairingData } from "../wire/generated";
import { inOrder } from "./order";

const REPLY_MS = 15_000;

/** The devices that may connect, as in the last reply; the server does not push changes. */
export class Roster {
  private readonly link: Link;
  private readonly known = signal<readonly DeviceData[] | null>(null);
  private readonly codes = signal<readonly PairingData[]>([]);
  private readonly failure = signal("");
  private readonly open = signal(false);
  private actions = 0;

  /** In display order; null before the first reply. */
  readonly list: ReadonlySignal<readonly DeviceData[] | null> = computed(() =>
    this.known.value === null ? null : inOrder(this.known.value),
  );

  constructor(link: Link) {
    this.link = link;
  }

  /** The pairing codes by which further devices may come in now. */
  get pairings(): ReadonlySignal<readonly PairingData[]> {
    return this.codes;
  }

  /** The error of the last request; empty after a success. */
  get problem(): ReadonlySignal<string> {
    return this.failure;
  }

  /** Whether the server runs without authentication, and thus without devices. */
  get isOpen(): ReadonlySignal<boolean> {
    return this.open;
  }

  /** Polls while the page is visible, first at once; @returns a function that stops it. */
  follow(intervalMs: number): () => void {
    const look = (): void => {
      if (!document.hidden) void this.refresh();
    };
    const timer = setInterval(look, intervalMs);
    const forget = this.link.onOpen(() => void this.refresh());
    document.addEventListener("visibilitychange", look);
    addEventListener("focus", look);
    return () => {
      clearInterval(timer);
      forget();
      document.removeEventListener("visibilitychange", look);
      removeEventListener("focus", look);
    };
  }

  /** Asks for the list; what was known stays when there is no answer. */
  async refresh(): Promise<void> {
    if (this.link.socketNow === null) return; // asked as soon as there is a connection
    const actions = this.actions;
    try {
      const { devices, auth, pairings } = await this.link.request("device_list", {}, { timeoutMs: REPLY_MS });
      if (actions !== this.actions) return; // older than an action that was sent after it
      this.known.value = devices;
      this.codes.value = pairings;
      this.open.value = !auth;
      this.failure.value = "";
    } catch (error) {
      if (error instanceof ConnectionLostError) return;
      this.failure.value = messageOf(error);
    }
  }

  /** @throws Error with what the server says against it. */
  async rename(id: string, name: string): Promise<void> {
    const renamed = await this.link.request("device_rename", { device_id: id, name });
    this.change((devices) => devices.map((device) => (device.id === id ? renamed : device)));
  }

  /** @throws Error with what the server says against it. */
  async revoke(id: string, also: { readonly kill: boolean; readonly paired: boolean }): Promise<DeviceRevokedData> {
    const ended = await this.link.request("device_revoke", { device_id: id, ...also });
    this.change((devices) => devices.filter((device) => !ended.revoked.includes(device.id)));
    return ended;
  }

  /**
   * Replaces a device's token; only this reply has the new one.
   *
   * @throws Error with what the server says against it.
   */
  async rotate(id: string, kill: boolean): Promise<DeviceRotatedData> {
    const rotated = await this.link.request("device_rotate", { device_id: id, kill });
    this.change((devices) => devices.map((device) => (device.id === id ? { ...device, connections: 0 } : device)));
    return rotated;
  }

  /** Ends a pairing code. @throws Error with what the server says against it. */
  async cancel(id: string): Promise<void> {
    await this.link.request("pairing_cancel", { pairing_id: id });
    this.codes.value = this.codes.value.filter((pairing) => pairing.id !== id);
    this.change((devices) => devices);
  }

  private change(how: (devices: readonly DeviceData[]) => readonly DeviceData[]): void {
    this.actions += 1;
    this.known.value = how(this.known.value ?? []);
    void this.refresh();
  }
}
