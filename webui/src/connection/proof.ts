import { readFrame } from "../wire/frame";
import type { Wire } from "./socket";

type Listener = ((event: unknown) => void) | null;

/** A connection that counts as open once this browser has proven that its cookie is its own. */
export class ProvenWire implements Wire {
  onopen: Wire["onopen"] = null;
  onmessage: Wire["onmessage"] = null;
  onclose: Wire["onclose"] = null;
  private readonly inner: Wire;
  private readonly sign: (nonce: string) => Promise<string>;
  private isProven = false;

  /** @param sign signs the server's nonce. */
  constructor(inner: Wire, sign: (nonce: string) => Promise<string>) {
    this.inner = inner;
    this.sign = sign;
    inner.onmessage = (event: { readonly data: unknown }) => {
      if (this.isProven) (this.onmessage as Listener)?.(event);
      else void this.prove(event.data);
    };
    inner.onclose = (event: unknown) => (this.onclose as Listener)?.(event);
  }

  send(text: string): void {
    this.inner.send(text);
  }

  close(code?: number): void {
    this.inner.close(code);
  }

  private async prove(data: unknown): Promise<void> {
    const frame = typeof data === "string" ? readFrame(data) : null;
    if (frame?.type === "prove") {
      this.isProven = true;
      (this.onopen as Listener)?.({});
      return;
    }
    const { nonce } = (frame?.data ?? {}) as { readonly nonce?: unknown };
    if (frame?.type !== "challenge" || typeof nonce !== "string") return;
    this.inner.send(JSON.stringify({ type: "prove", data: { signature: await this.sign(nonce) } }));
  }
}
