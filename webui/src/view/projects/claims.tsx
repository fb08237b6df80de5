import type { VNode } from "preact";
import { TriangleAlert } from "lucide";
import type { Claim, ClaimKind } from "../../wire/generated";
import { visible } from "../../text/visible";
import { Icon } from "../icon";

const KINDS: Readonly<Record<ClaimKind, string>> = {
  program: "Runs",
  server: "MCP server",
  rule: "Allows",
  variable: "Sets",
  unknown: "Unclear",
};

/**
 * What a directory has the CLI do by itself, whole, for somebody who decides whether to trust it.
 *
 * `total`: how many claims there are; `onMore` loads the next ones.
 */
export function Claims({
  claims,
  total,
  counts,
  onMore,
}: {
  readonly claims: readonly Claim[];
  readonly total: number;
  readonly counts: Readonly<Record<string, number>>;
  readonly onMore: () => void;
}): VNode {
  const sum = Object.entries(counts).map(([kind, count]) => `${count} \u00d7 ${KINDS[kind as ClaimKind]}`);
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
      <p class="hint">{sum.join(", ")}</p>
      {files.map((file) => (
        <div key={file}>
          <p class="path">{visible(file)}</p>
          <ul>
            {claims
              .filter((claim) => claim.file === file)
              .map(({ kind, text }) => (
                <li key={`${kind} ${text}`}>
                  {KINDS[kind]}: <code>{visible(text)}</code>
                </li>
              ))}
          </ul>
        </div>
      ))}
      {claims.length < total && (
        <button class="button" type="button" onClick={onMore}>
          Show more ({total - claims.length})
        </button>
      )}
      <p class="hint">
        <code>claude.setting_sources: [user]</code> in the server&rsquo;s settings leaves them out, in every project.
      </p>
    </section>
  );
}
