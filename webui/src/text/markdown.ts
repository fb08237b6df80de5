import { Marked, type Tokens } from "marked";
import { sanitize } from "./sanitize";

/** Longer texts are shown as plain text, since parsing them takes too long. */
export const MAX_MARKDOWN = 120_000;

/** Tags that agents use to format text: without attributes. */
const HARMLESS = /^<(?:br ?\/?|\/?(?:b|code|del|details|em|i|ins|kbd|mark|s|small|strong|sub|summary|sup|u))>$/i;

const marked = new Marked({
  gfm: true,
  breaks: false,
  renderer: {
    // An agent that writes of a <template> means these letters: as markup they would swallow what follows.
    html({ text }: Tokens.HTML | Tokens.Tag): string {
      return text.replace(/<[^>]*>|[&<>]/g, (found) => (HARMLESS.test(found) ? found : escape(found)));
    },
    // Nothing is loaded from elsewhere: a picture is a link to it.
    image({ href, text, title }: Tokens.Image): string {
      const said = [text, title, href].find(Boolean) ?? "";
      return `<a href="${escape(href)}">${escape(said)}</a>`;
    },
  },
});

/** A markdown text as harmless nodes; one that would take too long to parse is plain text. */
export function renderMarkdown(text: string): DocumentFragment {
  if (isCheap(text)) {
    try {
      return sanitize(marked.parse(text, { async: false }));
    } catch {
      // It is nested deeper than the parser can go.
    }
  }
  const plain = document.createElement("p");
  plain.className = "plain";
  plain.textContent = text;
  const nodes = document.createDocumentFragment();
  nodes.append(plain);
  return nodes;
}

/** The limit of the work for one text, in characters that the parser reads. */
const MAX_WORK = 20_000_000;
/** What makes the parser search the rest of its paragraph. */
const OPENERS = /[*]+|_+|~+|`+|[[<@]|www\.|:\/\//g;
/** A line that ends the paragraph before it: blank, a row of a table, an item of a list, a heading. */
const STARTS = /^\s*(?:$|\||#|[-*+] |\d{1,9}[.)] )/;
const NESTED = /^(?:[ \t]*(?:>|(?:[-*+]|\d{1,9}[.)])[ \t])){40}/;

/** Whether the parser's work, about the openers of each paragraph times its length, is within bounds. */
export function isCheap(text: string): boolean {
  let work = 0;
  let [openers, length] = [0, 0];
  let fence: string | null = null;
  for (const line of text.split("\n")) {
    if (NESTED.test(line)) return false;
    const found: string | undefined = FENCE.exec(line)?.[1];
    if (found !== undefined) fence = fence === null ? found : found.startsWith(fence) ? null : fence;
    if (fence !== null) continue;
    if (STARTS.test(line)) {
      work += openers * length;
      [openers, length] = [0, 0];
    }
    openers += line.match(OPENERS)?.length ?? 0;
    length += line.length;
  }
  return work + openers * length <= MAX_WORK;
}

const FENCE = /^ {0,3}(`{3,}|~{3,})/;

/**
 * Divides a text that still grows into parts that will not change any more and the rest, at empty lines outside
 * of code blocks and lists, so that only the rest has to be rendered again.
 */
export function settle(text: string): { readonly settled: readonly string[]; readonly rest: string } {
  const settled: string[] = [];
  let start = 0;
  let fence: string | null = null;
  let at = 0;
  while (at < text.length) {
    const end = text.indexOf("\n", at);
    if (end < 0) break;
    const line = text.slice(at, end);
    const found = FENCE.exec(line)?.[1];
    if (found !== undefined) {
      if (fence === null) fence = found;
      else if (found.startsWith(fence)) fence = null;
    } else if (fence === null && line.trim() === "" && startsBlock(text, end + 1)) {
      if (text.slice(start, end).trim() !== "") settled.push(text.slice(start, end));
      start = end + 1;
    }
    at = end + 1;
  }
  return { settled, rest: text.slice(start) };
}

/** Whether what begins at `at` is a block of its own, and not the next item or paragraph of a list. */
function startsBlock(text: string, at: number): boolean {
  const end = text.indexOf("\n", at);
  const line = end < 0 ? text.slice(at) : text.slice(at, end);
  return line.trim() !== "" && !/^(?:\s|[-*+] |\d+[.)] |\|)/.test(line);
}

function escape(text: string): string {
  return text.replace(/[&<>"']/g, (found) => `&#${found.charCodeAt(0)};`);
}
