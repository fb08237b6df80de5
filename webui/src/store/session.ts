import { signal, type ReadonlySignal } from "@preact/signals";

/** Whether this browser may come in, and as which device. */
export type Session =
  | { readonly kind: "unknown" }
  | { readonly kind: "paired"; readonly device: Device }
  | { readonly kind: "unpaired"; readonly reason: string };

export interface Device {
  readonly id: string;
  readonly name: string;
  /** Whether it may only watch. */
  readonly view_only?: boolean;
  /** The projects that it may see; null for all. */
  readonly projects?: readonly string[] | null;
}

interface Refusal {
  readonly data?: { readonly message?: unknown };
}

/** The device that this browser is, by a cookie that scripts cannot read. */
export class Sessions {
  private readonly state = signal<Session>({ kind: "unknown" });

  get current(): ReadonlySignal<Session> {
    return this.state;
  }

  /** Asks the server; when it does not answer, what was known stays. */
  async refresh(): Promise<void> {
    const answer = await ask("/api/session").catch(() => null);
    if (answer === null) return;
    if (answer.ok) this.state.value = { kind: "paired", device: await deviceOf(answer) };
    else if (answer.status === 401 || answer.status === 403) this.state.value = { kind: "unpaired", reason: "" };
    // Any other answer tells nothing about this device; the WebSocket will.
  }

  /**
   * Trades a pairing code for a cookie.
   *
   * @throws Error with a message for the person.
   */
  async pair(code: string, name: string): Promise<void> {
    const answer = await ask("/api/pair", { code, name }).catch(() => {
      throw new Error("The server cannot be reached.");
    });
    if (!answer.ok) throw new Error(await refusalOf(answer));
    this.state.value = { kind: "paired", device: await deviceOf(answer) };
  }

  /** Trades the cookie for another one; whoever has copied the old one is out. The connection comes back by itself. */
  async renew(): Promise<void> {
    const answer = await ask("/api/rotate", {}).catch(() => {
      throw new Error("The server cannot be reached.");
    });
    if (!answer.ok) throw new Error(await refusalOf(answer));
  }

  /** Gives the cookie up. */
  async leave(): Promise<void> {
    const answer = await ask("/api/logout", {});
    if (!answer.ok) throw new Error(await refusalOf(answer));
    this.refused("");
  }

  /** The server has turned this device away. */
  refused(reason: string): void {
    this.state.value = { kind: "unpaired", reason };
  }
}

function ask(path: string, body?: object): Promise<Response> {
  if (body === undefined) return fetch(path, { cache: "no-store" });
  const headers = { "Content-Type": "application/json" };
  return fetch(path, { method: "POST", headers, body: JSON.stringify(body), cache: "no-store" });
}

async function deviceOf(answer: Response): Promise<Device> {
  const { device } = (await answer.json()) as { device: Device };
  return device;
}

async function refusalOf(answer: Response): Promise<string> {
  const refusal = (await answer.json().catch(() => ({}))) as Refusal;
  const message = refusal.data?.message;
  return typeof message === "string" ? message : `The server answered with ${answer.status}.`;
}
