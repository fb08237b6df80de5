import { render, type VNode } from "preact";
import { useContext, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { highlight, languageOf } from "../../text/highlight";
import { MAX_MARKDOWN, renderMarkdown, settle } from "../../text/markdown";
import { formatSize } from "../../text/format";
import { Whole } from "./code";
import { CopyButton } from "./copy";
import "./markdown.css";

/** What has a direction of its own, by its first letter; code has not. */
const BLOCKS = "p, li, h1, h2, h3, h4, h5, h6, td, th, dt, dd, summary";

interface MarkdownProps {
  readonly text: string;
  /** Whether a long one is shown whole at first. */
  readonly whole?: boolean;
}

/** A text of the agent. */
export function Markdown({ text, whole = false }: MarkdownProps): VNode {
  return text.length > MAX_MARKDOWN ? <LongText text={text} isWhole={whole} /> : <Rendered text={text} />;
}

/** A text that is still being written: only its last part is rendered again and again. */
export function LiveMarkdown({ text }: { readonly text: string }): VNode {
  const { settled, rest } = useMemo(() => settle(text), [text]);
  if (text.length > MAX_MARKDOWN) return <pre class="plain">{text.slice(-MAX_MARKDOWN)}</pre>;
  return (
    <>
      {settled.map((part, at) => (
        <Rendered key={at} text={part} />
      ))}
      <Rendered key={settled.length} text={rest} live />
    </>
  );
}

function Rendered({ text, live = false }: { readonly text: string; readonly live?: boolean }): VNode {
  const element = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    const nodes = renderMarkdown(text);
    const blocks = [...nodes.querySelectorAll("pre")].map((block) => dress(block, live));
    for (const table of nodes.querySelectorAll("table")) frame(table);
    for (const block of nodes.querySelectorAll<HTMLElement>(BLOCKS)) block.dir = "auto";
    element.current?.replaceChildren(nodes);
    return () => {
      for (const undress of blocks) undress();
    };
  }, [text, live]);
  return <div class="markdown" ref={element} />;
}

/** Gives a block of code its language, its colours and a button to copy it; @returns how to take these away. */
function dress(block: HTMLElement, live: boolean): () => void {
  const code = block.querySelector("code") ?? block;
  const source = code.textContent;
  const name = /language-(\S+)/.exec(code.className)?.[1] ?? "";
  block.tabIndex = 0;
  const bar = document.createElement("div");
  bar.className = "code-bar";
  const figure = document.createElement("figure");
  figure.className = "code";
  block.replaceWith(figure);
  figure.append(bar, block);
  render(
    <>
      <span>{name}</span>
      <CopyButton text={() => source} label="Copy code" />
    </>,
    bar,
  );
  if (!live && languageOf(name) !== null) {
    void highlight(source, name).then((nodes) => {
      if (nodes !== null) code.replaceChildren(nodes);
    });
  }
  return () => render(null, bar);
}

/** Wide tables scroll by themselves. */
function frame(table: HTMLTableElement): void {
  const around = document.createElement("div");
  around.className = "table";
  around.tabIndex = 0;
  table.replaceWith(around);
  around.append(table);
}

/** A text that is too long to be formatted: its beginning, and on request all of it as plain text. */
function LongText({ text, isWhole }: { readonly text: string; readonly isWhole: boolean }): VNode {
  const isDecided = useContext(Whole);
  const [whole, setWhole] = useState(isWhole || isDecided);
  const size = formatSize(text.length);
  return (
    <div class="long-text">
      {whole ? <pre class="plain">{text}</pre> : <Rendered text={`${text.slice(0, 4000)} …`} />}
      <div class="row">
        <button class="button small" type="button" onClick={() => setWhole(!whole)}>
          {whole ? "Show the beginning only" : `Show all (${size})`}
        </button>
        <CopyButton text={() => text} label="Copy all" />
      </div>
    </div>
  );
}
