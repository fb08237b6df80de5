/** A server that the test plays: it takes connections when it wants to, and says what it wants to. */
import type { Wire } from "../../src/connection/socket";
import type { ClientFrame } from "../../src/wire/frame";

type Listener = ((event: unknown) => void) | null;

export class FakeWire implements Wire {
  onopen: Wire["onopen"] = null;
  onmessage: Wire["onmessage"] = null;
  onclose: Wire["onclose"] = null;
  readonly sent: ClientFrame[] = [];
  closedBy: "client" | "server" | null = null;

  send(text: string): void {
    this.sent.push(JSON.parse(text) as ClientFrame);
  }

  close(): void {
    this.closedBy ??= "client";
  }

  /** The handshake is over. */
  accept(): void {
    (this.onopen as Listener)?.({});
  }

  /** Says a frame; text is sent as it is. */
  say(frame: object | string): void {
    const data =
      typeof frame === "string" ? frame : JSON.stringify({ timestamp: "2026-01-01T00:00:00.000Z", ...frame });
    (this.onmessage as Listener)?.({ data });
  }

  /** Hangs up. */
  drop(code = 1006): void {
    this.closedBy ??= "server";
    (this.onclose as Listener)?.({ code });
  }

  /** The last request of a type. */
  asked(type: string): ClientFrame {
    const found = this.sent.findLast((frame) => frame.type === type);
    if (found === undefined) throw new Error(`nobody asked for ${type}: ${this.sent.map((one) => one.type).join()}`);
    return found;
  }

  /** Answers the last request of a type. */
  reply(type: string, data: object, as = type): void {
    const { request_id, conversation_id } = this.asked(type);
    this.say({ type: as, request_id, data, ...(conversation_id === undefined ? {} : { project_id: conversation_id }) });
  }

  /** Refuses the last request of a type. */
  refuse(type: string, code: string, message = code): void {
    this.say({ type: "error", request_id: this.asked(type).request_id, data: { code, message } });
  }
}

export class Network {
  readonly wires: FakeWire[] = [];

  readonly open = (): FakeWire => {
    const wire = new FakeWire();
    this.wires.push(wire);
    return wire;
  };

  /** The newest connection. */
  get wire(): FakeWire {
    const wire = this.wires.at(-1);
    if (wire === undefined) throw new Error("nobody connects");
    return wire;
  }
}

/** Lets everything happen that only waits for its turn. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
}
