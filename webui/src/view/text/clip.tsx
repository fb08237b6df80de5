import type { ComponentChildren, VNode } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { useExpanded } from "./expansion";

interface ClipProps {
  readonly id: string;
  /** In pixels; what is higher is cut off until somebody wants to see it. */
  readonly height?: number;
  readonly children: ComponentChildren;
}

/** Something that may be long, of which the beginning is shown. */
export function Clip({ id, height = 240, children }: ClipProps): VNode {
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
      {isHigher && (
        <button class="clip-more" type="button" aria-expanded={open} onClick={() => setOpen(!open)}>
          {open ? "Show less" : "Show all"}
        </button>
      )}
    </>
  );
}
