import type { ComponentChildren, VNode } from "preact";
import { useLayoutEffect, useMemo, useReducer, useRef } from "preact/hooks";
import { Scroll } from "./scroll";
import "./list.css";

interface ListProps<Item extends { readonly key: string }> {
  readonly label: string;
  readonly items: readonly Item[];
  /** Changes whenever `items` has. */
  readonly version: number;
  readonly render: (item: Item) => ComponentChildren;
  /** Shown below the last item, and may grow. */
  readonly footer: ComponentChildren;
  /** Whether there is more beyond the last item. */
  readonly goesOn: boolean;
  readonly onNearStart: () => void;
  readonly onNearEnd: () => void;
  /** Whether the end is followed has changed. */
  readonly onFollow: (following: boolean) => void;
  /** Receives what scrolls to the end. */
  readonly control: { toEnd: () => void };
}

/** How near to an end more is asked for. */
const NEAR = 1200;
const GUESS = 90;

/** A list of any length, of which only what is seen is in the document. */
export function List<Item extends { readonly key: string }>(props: ListProps<Item>): VNode {
  const { items, version, render, control } = props;
  const scroll = useMemo(() => new Scroll(GUESS), []);
  const [, redraw] = useReducer<number, undefined>((count) => count + 1, 0);
  const frame = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const footer = useRef<HTMLDivElement>(null);
  const told = useRef(true);

  useMemo(() => {
    scroll.geometry.setKeys(items.map(({ key }) => key));
  }, [items, version]);

  scroll.goesOn = props.goesOn;
  const { start, end } = scroll.range();

  const ask = (): void => {
    if (scroll.above < NEAR) props.onNearStart();
    if (scroll.below < NEAR) props.onNearEnd();
    if (told.current === scroll.following) return;
    told.current = scroll.following;
    props.onFollow(scroll.following);
  };

  /** @returns whether anything has another height than was thought. */
  const measure = (): boolean => {
    let changed = false;
    for (const row of content.current?.children ?? []) {
      const key = row instanceof HTMLElement ? row.dataset["key"] : undefined;
      if (key !== undefined && scroll.geometry.measure(key, row.getBoundingClientRect().height)) changed = true;
    }
    return changed;
  };

  control.toEnd = () => {
    scroll.toEnd();
    redraw(undefined);
  };

  useLayoutEffect(() => {
    scroll.attach(frame.current);
    const observer = new ResizeObserver(() => {
      measure();
      scroll.settle();
      redraw(undefined);
    });
    for (const element of [frame.current, content.current, footer.current])
      if (element !== null) observer.observe(element);
    return () => {
      observer.disconnect();
      scroll.attach(null);
    };
  }, []);

  useLayoutEffect(() => {
    const changed = measure();
    scroll.settle();
    const now = scroll.range();
    // The measured items may leave space for more, or the view may have moved.
    if (changed || now.start < start || now.end > end) redraw(undefined);
    ask();
  });

  const onScroll = (): void => {
    scroll.scrolled();
    const now = scroll.range();
    if (now.start !== start || now.end !== end) redraw(undefined);
    ask();
  };

  return (
    <div class="list" ref={frame} onScroll={onScroll} tabIndex={0} role="log" aria-live="off" aria-label={props.label}>
      <div class="list-content" ref={content}>
        <div style={{ height: `${scroll.geometry.topOf(start)}px` }} />
        {items.slice(start, end).map((item) => (
          <div class="list-row" key={item.key} data-key={item.key}>
            {render(item)}
          </div>
        ))}
        <div style={{ height: `${Math.max(0, scroll.geometry.total - scroll.geometry.topOf(end))}px` }} />
      </div>
      <div ref={footer}>{props.footer}</div>
    </div>
  );
}
