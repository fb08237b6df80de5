import type { VNode } from "preact";
import { TriangleAlert } from "lucide";
import type { Claim, ClaimKind } from "../../wire/generated";
import { Icon } from "../icon";

const KINDS: Readonly<Record<ClaimKind, string>> = {
  program: "Runs",
  server: "MCP server",
  rule: "Allows",
  variable: "Sets",
  unknown: "Unclear",
};

/** What a directory has the CLI do by itself, for somebody who decides whether to trust it. */
export function Claims({ claims }: { readonly claims: readonly Claim[] }): VNode {
  const files = [...new Set(claims.map(({ file }) => file))];
  return (
    <section class="claims" role="alert">
      <h3>
        <Icon node={TriangleAlert} size={18} />
        Do you trust what is in it?
      </h3>
      <p>
        It has settings of its own, which the agent&rsquo;s CLI follows without asking, as you, on the server&rsquo;s
        machine:
      </p>
      {files.map((file) => (
        <div key={file}>
          <p class="path">{file}</p>
          <ul>
            {claims
              .filter((claim) => claim.file === file)
              .map(({ kind, text }) => (
                <li key={`${kind} ${text}`}>
                  {KINDS[kind]}: <code>{text}</code>
                </li>
              ))}
          </ul>
        </div>
      ))}
      <p class="hint">
        <code>claude.setting_sources: [user]</code> in the server&rsquo;s settings leaves them out, in every project.
      </p>
    </section>
  );
}
