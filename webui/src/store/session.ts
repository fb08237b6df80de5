import { signal, type ReadonlySignal } from "@preact/signals";
import { BrowserKey } from "../connection/key";
import { ProvenWire } from "../connection/proof";
import type { Wire } from "../connection/socket";

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

interface Answer {
  readonly device: Device;
  readonly bound?: boolean;
  /** Whether the cookie has no key yet; `required`: it is from an older version of the server, and opens nothing. */
  readonly enroll?: "required" | "offered";
  readonly nonce?: string;
}

interface Refusal {
  readonly data?: { readonly message?: unknown; readonly details?: { readonly reason?: unknown } };
}

/** The device that this browser is, by a cookie that scripts cannot read and a key that they cannot export. */
export class Sessions {
  private readonly state = signal<Session>({ kind: "unknown" });
  /** What the cookie has to be proven with; null where it is not bound to a key. */
  private key: BrowserKey | null = null;

  get current(): ReadonlySignal<Session> {
    return this.state;
  }

  /** Asks the server; when it does not answer, what was known stays. */
  async refresh(): Promise<void> {
    const before = this.state.peek();
    const key = await BrowserKey.load();
    const answer = await this.session(key).catch(() => null);
    // Until the server says so itself: a browser that has a key was paired with it.
    this.key ??= key;
    if (answer === null) return;
    if (answer.ok) await this.enter((await answer.json()) as Answer, key);
    else if (answer.status === 401 || answer.status === 403) {
      const { data } = (await answer.json().catch(() => ({}))) as Refusal;
      const reason = data?.details?.reason === "key" ? data.message : "";
      if (this.state.peek() !== before) return; // paired while the question was on its way
      this.state.value = { kind: "unpaired", reason: typeof reason === "string" ? reason : "" };
    }
    // Any other answer says nothing about this device; the WebSocket will.
  }

  private async enter(answer: Answer, key: BrowserKey | null): Promise<void> {
    const made = answer.enroll === undefined ? null : await BrowserKey.ensure();
    let { bound = false } = answer;
    if (made !== null || answer.enroll === "required") {
      const traded = await ask("/api/enroll", { key: made?.publicKey ?? null }).catch(() => null);
      // One that is refused was traded by another tab just now, with the same key.
      if (traded?.ok === true || traded?.status === 401) bound = made !== null;
    }
    this.key = bound ? (made ?? key) : null;
    this.state.value = { kind: "paired", device: answer.device };
  }

  private session(key: BrowserKey | null): Promise<Response> {
    return fetch("/api/session", { cache: "no-store", headers: { "Pocket-Agent-Key": key?.name ?? "none" } });
  }

  /** Begins a connection; where the cookie is bound to a key it is open once that is proven. */
  readonly open = (connect: (path: string) => Wire): Wire => {
    const key = this.key;
    if (key === null) return connect("/ws");
    return new ProvenWire(connect("/ws?proof=1"), (nonce) => key.sign("GET /ws", nonce));
  };

  /** What a request that matters is sent with. */
  private async proof(action: string): Promise<Record<string, string>> {
    const key = this.key;
    if (key === null) return {};
    const answer = await this.session(key);
    if (!answer.ok) throw new Error(await refusalOf(answer));
    const { nonce = "" } = (await answer.json()) as Answer;
    return { "Pocket-Agent-Proof": `${nonce} ${await key.sign(action, nonce)}` };
  }

  /**
   * Trades a pairing code for a cookie.
   *
   * @throws Error with a message for the person.
   */
  async pair(code: string, name: string): Promise<void> {
    const key = await BrowserKey.ensure();
    const answer = await ask("/api/pair", { code, name, key: key?.publicKey ?? null }).catch(() => {
      throw new Error("The server cannot be reached.");
    });
    if (!answer.ok) throw new Error(await refusalOf(answer));
    await this.enter((await answer.json()) as Answer, key);
  }

  /** Exchanges the cookie for a new one; copies of the old one become invalid. The connection is re-established. */
  async renew(): Promise<void> {
    const answer = await ask("/api/rotate", {}, await this.proof("POST /api/rotate")).catch(() => {
      throw new Error("The server cannot be reached.");
    });
    if (!answer.ok) throw new Error(await refusalOf(answer));
  }

  /** Gives the cookie up. @param kill whether to kill what this device runs, too. */
  async leave(kill = false): Promise<void> {
    const answer = await ask("/api/logout", { kill }, await this.proof("POST /api/logout"));
    if (!answer.ok) throw new Error(await refusalOf(answer));
    await BrowserKey.forget();
    this.refused("");
  }

  /** The server has turned this device away. */
  refused(reason: string): void {
    this.state.value = { kind: "unpaired", reason };
  }
}

function ask(path: string, body: object, proof: Record<string, string> = {}): Promise<Response> {
  const headers = { "Content-Type": "application/json", ...proof };
  return fetch(path, { method: "POST", headers, body: JSON.stringify(body), cache: "no-store" });
}

async function refusalOf(answer: Response): Promise<string> {
  const refusal = (await answer.json().catch(() => ({}))) as Refusal;
  const message = refusal.data?.message;
  return typeof message === "string" ? message : `The server answered with ${answer.status}.`;
}
