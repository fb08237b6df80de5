import type { VNode } from "preact";

/** How a browser that is not known yet comes in. */
export function Pairing(): VNode {
  return (
    <main class="page">
      <div class="empty">
        <h2>Pair this browser</h2>
        <p>
          Run <code>pocket-agent pair</code> on the server's machine.
        </p>
      </div>
    </main>
  );
}
