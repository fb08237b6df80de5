import { createContext, type VNode } from "preact";
import { useContext, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { readable } from "../../conversation/reading";
import { diffLines, type DiffLine } from "../../text/diff";
import { highlight } from "../../text/highlight";
import { isTerminalText, readTerminal } from "../../text/terminal";
import { visible } from "../../text/visible";
import "./code.css";

/** The size of the initial part of a text, in characters, and the cost of each line. */
const PART = 100_000;
const LINE = 50;

/** Whether all of it is shown, however long: a user must be able to read all of a request. */
export const Whole = createContext(false);

/** How much of a text is shown; more each time that is asked for. */
function useBudget(): { readonly budget: number; readonly more: () => void } {
  const [budget, setBudget] = useState(PART);
  return { budget: useContext(Whole) ? Infinity : budget, more: () => setBudget(8 * budget) };
}

interface MoreProps {
  readonly count: number;
  readonly unit: string;
  readonly onMore: () => void;
}

/** What is not shown, and shows it. */
function More({ count, unit, onMore }: MoreProps): VNode | null {
  if (count === 0) return null;
  return (
    <button class="clip-more" type="button" onClick={onMore}>
      Show more: {count.toLocaleString("en")} {unit} are left
    </button>
  );
}

/** Code as it is, coloured when its language is known. */
export function Code({ text, language }: { readonly text: string; readonly language?: string | null }): VNode {
  const element = useRef<HTMLElement>(null);
  const { budget, more } = useBudget();
  const shown = visible(text.slice(0, budget));
  useLayoutEffect(() => {
    let current = true;
    if (element.current !== null) element.current.textContent = shown;
    if (language) {
      void highlight(shown, language).then((nodes) => {
        if (current && nodes !== null) element.current?.replaceChildren(nodes);
      });
    }
    return () => {
      current = false;
    };
  }, [shown, language]);
  return (
    <>
      <pre class="block" tabIndex={0}>
        <code ref={element} />
      </pre>
      <More count={Math.max(0, text.length - budget)} unit="characters" onMore={more} />
    </>
  );
}

export function Json({ value }: { readonly value: unknown }): VNode {
  return <Code text={readable(value)} language="json" />;
}

/** What a command printed. */
export function Output({ text, failed = false }: { readonly text: string; readonly failed?: boolean }): VNode {
  const whole = useMemo(() => text.trimEnd().replace(/^\n+/, ""), [text]);
  const { budget, more } = useBudget();
  const spans = useMemo(() => {
    const shown = whole.slice(0, budget);
    return isTerminalText(shown) ? readTerminal(shown) : [{ text: visible(shown), classes: [] }];
  }, [whole, budget]);
  return (
    <>
      <pre class={failed ? "block output failed" : "block output"} tabIndex={0}>
        {spans.map((span, at) =>
          span.classes.length === 0 ? (
            span.text
          ) : (
            <span key={at} class={span.classes.join(" ")}>
              {span.text}
            </span>
          ),
        )}
      </pre>
      <More count={Math.max(0, whole.length - budget)} unit="characters" onMore={more} />
    </>
  );
}

const SIGNS = { added: "+", removed: "−", same: " ", gap: "⋯" } as const;
const SAID = { added: "added: ", removed: "removed: ", same: "", gap: "lines in between are the same" } as const;

/** A change of a text, line by line. */
export function Diff({ before, after }: { readonly before: string; readonly after: string }): VNode {
  const lines = useMemo(() => diffLines(before, after), [before, after]);
  const cost = useMemo(() => lines.reduce((sum, { text }) => sum + LINE + text.length, 0), [lines]);
  const { budget, more } = useBudget();
  const shown = useMemo(() => beginning(lines, budget), [lines, budget]);
  return (
    <>
      <div class="block diff" role="group" aria-label="Change" tabIndex={0}>
        <div class="diff-lines">
          {shown.map(({ kind, text }, at) => (
            <div key={at} class={kind}>
              <span class="sign" aria-hidden="true">
                {SIGNS[kind]}
              </span>
              <span class="visually-hidden">{SAID[kind]}</span>
              {visible(text)}
            </div>
          ))}
        </div>
      </div>
      {cost > budget && <More count={lines.length - shown.length + 1} unit="lines" onMore={more} />}
    </>
  );
}

/** The first lines within a budget; the last of them may be cut. */
function beginning(lines: readonly DiffLine[], budget: number): readonly DiffLine[] {
  let rest = budget;
  const end = lines.findIndex(({ text }) => (rest -= LINE + text.length) < 0);
  if (end < 0) return lines;
  return lines.slice(0, end + 1).map((line, at) => {
    return at < end ? line : { ...line, text: line.text.slice(0, Math.max(0, rest + line.text.length)) };
  });
}
