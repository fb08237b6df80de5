import type { VNode } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { ChevronDown, ChevronUp, ShieldQuestionMark } from "lucide";
import type { Approval } from "../../store/approvals";
import { useStore } from "../../store/store";
import { Icon } from "../icon";
import { Request } from "./request";
import { titleOf } from "./title";
import "./approval.css";

/** What agents ask for, whichever project is open; it stays until somebody has answered. */
export function ApprovalDock(): VNode | null {
  const { approvals, projects, conversation } = useStore();
  const list = approvals.list.value;
  const [chosen, setChosen] = useState<string | null>(null);
  const [isFolded, setFolded] = useState(false);
  const dock = useRef<HTMLElement>(null);
  const shown = list.find(({ id }) => id === chosen) ?? list[0];
  const isOpen = shown !== undefined && !isFolded;

  // One that comes unfolds the dock, so that it cannot be missed.
  const newest = approvals.waiting.value.at(-1)?.id;
  useEffect(() => {
    if (newest !== undefined) setFolded(false);
  }, [newest]);

  if (shown === undefined) return null;
  const name = projects.list.value.find(({ id }) => id === shown.projectId)?.name ?? "another project";
  const isElsewhere = conversation.value?.projectId !== shown.projectId;
  return (
    <section class="dock" ref={dock} aria-label="Approval wanted">
      <header class="dock-head">
        <Icon node={ShieldQuestionMark} size={20} class="dock-icon" />
        <h2>
          {titleOf(shown)}
          <span class="dock-project">
            {" in "}
            {isElsewhere ? (
              <a href={`/p/${shown.projectId}`} data-route>
                {name}
              </a>
            ) : (
              name
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
      {isOpen && <Request key={shown.id} approval={shown} />}
    </section>
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
