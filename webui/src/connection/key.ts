/**
 * The key by which this browser proves that its cookie is its own. Browsers send a host's cookies to all of its ports;
 * IndexedDB belongs to one origin, so a server on another port cannot read the key, and no script can export it.
 */
import { inStore } from "../store/memory";

const ENTRY = "device";
const CONTEXT = "pocket-agent proof";

interface Kept {
  readonly privateKey: CryptoKey;
  /** SubjectPublicKeyInfo, in DER. */
  readonly spki: ArrayBuffer;
}

export class BrowserKey {
  /** Base64url. */
  readonly publicKey: string;
  /** The SHA-256 of the public key, in hexadecimal: names it to the server. */
  readonly name: string;
  private readonly privateKey: CryptoKey;

  private constructor(kept: Kept, name: string) {
    this.privateKey = kept.privateKey;
    this.publicKey = encode(kept.spki);
    this.name = name;
  }

  /** The key of this origin, if there is one. */
  static async load(): Promise<BrowserKey | null> {
    if (whyNoKey() !== "") return null;
    const kept = await inStore("readonly", (store) => store.get(ENTRY) as IDBRequest<Kept | undefined>).catch(
      () => undefined,
    );
    return kept === undefined ? null : BrowserKey.of(kept);
  }

  /** The key of this origin, made if there is none; null where the browser cannot hold one. */
  static async ensure(): Promise<BrowserKey | null> {
    const known = await BrowserKey.load();
    if (known !== null || whyNoKey() !== "") return known;
    try {
      const { privateKey, publicKey } = await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, false, [
        "sign",
        "verify",
      ]);
      const spki = await crypto.subtle.exportKey("spki", publicKey);
      const kept: Kept = { privateKey, spki };
      // Another tab may have been first: then its key is the one that counts.
      await inStore("readwrite", (store) => store.add(kept, ENTRY)).catch(() => undefined);
    } catch {
      return null;
    }
    return BrowserKey.load();
  }

  /** Forgets the key of this origin. */
  static async forget(): Promise<void> {
    if (whyNoKey() === "") await inStore("readwrite", (store) => store.delete(ENTRY)).catch(() => undefined);
  }

  private static async of(kept: Kept): Promise<BrowserKey> {
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", kept.spki));
    return new BrowserKey(kept, [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join(""));
  }

  /**
   * Signs a nonce of the server.
   *
   * @param action method and path, such as `POST /api/logout`.
   */
  async sign(action: string, nonce: string): Promise<string> {
    const text = new TextEncoder().encode([CONTEXT, location.origin, action, nonce].join("\n"));
    return encode(await crypto.subtle.sign({ name: "ECDSA", hash: "SHA-256" }, this.privateKey, text));
  }
}

/** Why this page cannot hold a key; empty where it can. */
export function whyNoKey(): string {
  if (!isSecureContext) return "Browsers store keys only for pages with TLS or from localhost.";
  if (typeof indexedDB === "undefined" || typeof crypto.subtle === "undefined")
    return "This browser cannot store keys.";
  return "";
}

function encode(bytes: ArrayBuffer): string {
  const text = String.fromCharCode(...new Uint8Array(bytes));
  return btoa(text).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}
