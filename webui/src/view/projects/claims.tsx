import type { VNode } from "preact";
import { TriangleAlert } from "lucide";
import type { Claim, ClaimKind } from "../../wire/generated";
import { visible } from "../../text/visible";
import { Icon } from "../icon";
import "./projects.css";

const KINDS: Readonly<Record<ClaimKind, string>> = {
  program: "Runs",
  server: "MCP server",
  rule: "Allows",
  variable: "Sets",
  unknown: "Unclear",
};

/**
 * The claims of a directory in full, for the decision whether to trust it.
 *
 * `total`: how many claims there are; `onMore` loads the next ones. `fresh`: how many of the first ones have not
 * been accepted, in a project; without it the directory is not a project.
 */
export function Claims({
  claims,
  total = claims.length,
  counts = {},
  fresh,
  onMore,
}: {
  readonly claims: readonly Claim[];
  readonly total?: number;
  readonly counts?: Readonly<Record<string, number>>;
  readonly fresh?: number;
  readonly onMore: () => void;
}): VNode {
  const sum = Object.entries(counts).map(([kind, count]) => `${count} \u00d7 ${KINDS[kind as ClaimKind]}`);
  const parts = (fresh === undefined ? [claims] : [claims.slice(0, fresh), claims.slice(fresh)]).flatMap(
    (part, index) =>
      [...new Set(part.map(({ file }) => file))].map((file) => ({
        file,
        isNew: fresh !== undefined && index === 0,
        inside: part.filter((claim) => claim.file === file),
      })),
  );
  return (
    <section class="claims" role="alert">
      <h3>
        <Icon node={TriangleAlert} size={18} />
        {fresh === undefined ? "Do you trust its settings?" : "Do you trust the new settings?"}
      </h3>
      <p>
        It has settings of its own, which the agent&rsquo;s CLI follows without asking, as you, on the server&rsquo;s
        machine:
      </p>
      <p class="hint">{sum.join(", ")}</p>
      {parts.map(({ file, isNew, inside }) => (
        <div key={`${isNew} ${file}`}>
          <p class="path">
            {isNew && <span class="badge warn">New</span>} {visible(file)}
          </p>
          <ul>
            {inside.map(({ kind, text }) => (
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
