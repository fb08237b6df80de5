import type { VNode } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { ChevronDown, ChevronUp, ShieldQuestionMark, TriangleAlert } from "lucide";
import type { Approval } from "../../store/approvals";
import { nameOf } from "../../store/projects";
import { useStore } from "../../store/store";
import { hides, visible } from "../../text/visible";
import { Icon } from "../icon";
import { Request } from "./request";
import { titleOf } from "./title";
import "./approval.css";

/**
 * What agents ask for, whichever conversation is open, until a device has answered. Requests of the open one come
 * first. A request that has the focus stays, whatever else comes.
 */
export function ApprovalDock(): VNode | null {
  const { approvals, projects, conversation } = useStore();
  const openId = conversation.value?.id;
  const all = approvals.list.value;
  const list = useMemo(() => {
    const isHere = ({ conversationId }: Approval): boolean => conversationId === openId;
    return [...all.filter(isHere), ...all.filter((approval) => !isHere(approval))];
  }, [all, openId]);
  const [chosen, setChosen] = useState<string | null>(null);
  const [isFolded, setFolded] = useState(false);
  const shown = list.find(({ id }) => id === chosen) ?? list[0];
  const isOpen = shown !== undefined && !isFolded;
  useEffect(() => setChosen(null), [openId]);

  // One that comes unfolds the dock, so that it cannot be missed.
  const newest = approvals.waiting.value.at(-1)?.id;
  useEffect(() => {
    if (newest !== undefined) setFolded(false);
  }, [newest]);

  const asking = projects.get(shown?.conversationId ?? "");
  const name = asking === undefined ? "another project" : nameOf(asking);
  if (shown === undefined) return null;
  return (
    <section class="dock" aria-label="Approval wanted" onFocusIn={() => setChosen(shown.id)}>
      <header class="dock-head">
        <Icon node={ShieldQuestionMark} size={20} class="dock-icon" />
        <h2>
          {titleOf(shown)}
          <span class="dock-project">
            {" in "}
            {openId === shown.conversationId ? (
              visible(name)
            ) : (
              <a href={`/p/${shown.conversationId}`} data-route>
                {visible(name)}
              </a>
            )}
          </span>
        </h2>
        {list.length > 1 && <Pager list={list} shown={shown} onChoose={setChosen} />}
        <button
          class="button quiet small icon-only"
          type="button"
          aria-label={isOpen ? "Fold" : "Unfold"}
          aria-expanded={isOpen}
          onClick={() => setFolded(isOpen)}
        >
          <Icon node={isOpen ? ChevronDown : ChevronUp} />
        </button>
      </header>
      <Warning about={shown.request} name={name} />
      {/* Folded, it keeps what was typed into it. */}
      <div class="dock-request" hidden={!isOpen}>
        <Request key={shown.id} approval={shown} isShown={isOpen} />
      </div>
    </section>
  );
}

/** Warns of characters that would make what is shown differ from what runs. */
function Warning({ about, name }: { readonly about: object; readonly name: string }): VNode | null {
  const isMarked = useMemo(() => hides([about, name]), [about, name]);
  if (!isMarked) return null;
  return (
    <p class="dock-warning" role="alert">
      <Icon node={TriangleAlert} size={18} />
      Some of its characters are invisible or change the reading order. They are shown as &lt;U+…&gt;.
    </p>
  );
}

interface PagerProps {
  readonly list: readonly Approval[];
  readonly shown: Approval;
  readonly onChoose: (id: string) => void;
}

function Pager({ list, shown, onChoose }: PagerProps): VNode {
  const at = list.indexOf(shown);
  const next = list[(at + 1) % list.length];
  return (
    <button class="button quiet small" type="button" onClick={() => next && onChoose(next.id)}>
      {at + 1} of {list.length}
      <span class="visually-hidden">, show the next one</span>
    </button>
  );
}
