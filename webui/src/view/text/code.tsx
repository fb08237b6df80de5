import { createContext, type VNode } from "preact";
import { useContext, useLayoutEffect, useMemo, useRef } from "preact/hooks";
import { readable } from "../../conversation/reading";
import { diffLines } from "../../text/diff";
import { highlight } from "../../text/highlight";
import { isTerminalText, readTerminal } from "../../text/terminal";
import { visible } from "../../text/visible";
import "./code.css";

/** More than this is not put into the document at once. */
const MAX_CHARACTERS = 100_000;
const MAX_LINES = 2000;

/** Whether everything is shown, however long: whoever allows something has to be able to read all of it. */
export const Whole = createContext(false);

/** Code as it is, coloured when its language is known. */
export function Code({ text, language }: { readonly text: string; readonly language?: string | null }): VNode {
  const element = useRef<HTMLElement>(null);
  const whole = useContext(Whole);
  const shown = visible(whole ? text : cut(text));
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
    <pre class="block" tabIndex={0}>
      <code ref={element} />
    </pre>
  );
}

export function Json({ value }: { readonly value: unknown }): VNode {
  return <Code text={readable(value)} language="json" />;
}

/** What a command printed. */
export function Output({ text, failed = false }: { readonly text: string; readonly failed?: boolean }): VNode {
  const spans = useMemo(() => {
    const shown = cut(text.replace(/^\n+|\s+$/g, ""));
    return isTerminalText(shown) ? readTerminal(shown) : [{ text: visible(shown), classes: [] }];
  }, [text]);
  return (
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
  );
}

const SIGNS = { added: "+", removed: "−", same: " ", gap: "⋯" } as const;
const SAID = { added: "added: ", removed: "removed: ", same: "", gap: "lines in between are the same" } as const;

/** A change of a text, line by line. */
export function Diff({ before, after }: { readonly before: string; readonly after: string }): VNode {
  const lines = useMemo(() => diffLines(before, after), [before, after]);
  const limit = useContext(Whole) ? Infinity : MAX_LINES;
  return (
    <div class="block diff" role="group" aria-label="Change" tabIndex={0}>
      <div class="diff-lines">
        {lines.slice(0, limit).map(({ kind, text }, at) => (
          <div key={at} class={kind}>
            <span class="sign" aria-hidden="true">
              {SIGNS[kind]}
            </span>
            <span class="visually-hidden">{SAID[kind]}</span>
            {visible(text)}
          </div>
        ))}
      </div>
      {lines.length > limit && <p class="hint">… {lines.length - limit} more lines</p>}
    </div>
  );
}

function cut(text: string): string {
  if (text.length <= MAX_CHARACTERS) return text;
  return `${text.slice(0, MAX_CHARACTERS)}\n… ${text.length - MAX_CHARACTERS} more characters`;
}
