import { createContext, type ComponentChildren, type VNode } from "preact";
import { useContext, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Item, Rest } from "../../conversation/item";
import { formatSize } from "../../text/format";
import { messageOf } from "../../wire/frame";
import { useExpanded } from "./expansion";

/** Fetches the whole of an entry of which only the beginning is here. */
export const LoadWhole = createContext<(rest: Rest) => Promise<void>>(() => Promise.resolve());

/** What of an item is not here. */
export function restOf({ offset, size }: Item): Rest | undefined {
  return size === undefined ? undefined : { offset, size };
}

interface ClipProps {
  readonly id: string;
  /** Maximum height in pixels of the collapsed text. */
  readonly height?: number;
  /** The entry, where only its beginning is here. */
  readonly rest?: Rest | undefined;
  readonly children: ComponentChildren;
}

/** Something that may be long, of which the beginning is shown. */
export function Clip({ id, height = 240, rest, children }: ClipProps): VNode {
  const [open, setOpen] = useExpanded(id, false);
  const [isHigher, setHigher] = useState(false);
  const element = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    if (element.current !== null) setHigher(element.current.scrollHeight > height + 24);
  }, [children, height]);
  const cut = isHigher && !open;
  return (
    <>
      <div class={cut ? "clip cut" : "clip"} ref={element} style={cut ? { maxHeight: `${height}px` } : {}}>
        {children}
      </div>
      {rest !== undefined && <ShowRest rest={rest} onShow={() => setOpen(true)} />}
      {rest === undefined && isHigher && (
        <button class="clip-more" type="button" aria-expanded={open} onClick={() => setOpen(!open)}>
          {open ? "Show less" : "Show all"}
        </button>
      )}
    </>
  );
}

interface ShowRestProps {
  readonly rest: Rest;
  /** Called before it is fetched. */
  readonly onShow?: () => void;
}

/** Fetches what is not here, and says how much that is. */
export function ShowRest({ rest, onShow }: ShowRestProps): VNode {
  const load = useContext(LoadWhole);
  const [said, setSaid] = useState("");
  const show = async (): Promise<void> => {
    setSaid("Loading…");
    onShow?.();
    try {
      await load(rest);
    } catch (error) {
      setSaid(`${messageOf(error)} Try again`);
    }
  };
  return (
    <button class="clip-more" type="button" disabled={said === "Loading…"} onClick={() => void show()}>
      {said || `Show all (${formatSize(rest.size)})`}
    </button>
  );
}
