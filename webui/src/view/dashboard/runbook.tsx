import type { VNode } from "preact";

/** A link to a runbook, which is not a page of the client. */
export function Runbook({ name }: { readonly name: string | null }): VNode | null {
  if (name === null) return null;
  return (
    <a class="runbook" href={`/docs/runbooks/${encodeURIComponent(name)}`} target="_blank" rel="noopener">
      Runbook<span class="visually-hidden"> {name}</span>
    </a>
  );
}
