import { Marked, type Tokens } from "marked";
import { sanitize } from "./sanitize";

/** Longer texts are shown as plain text: nobody reads them, and a parser takes its time. */
export const MAX_MARKDOWN = 120_000;

/** Tags that agents use to set text, as they stand in a text: without attributes. */
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

/** A markdown text as harmless nodes. */
export function renderMarkdown(text: string): DocumentFragment {
  return sanitize(marked.parse(text, { async: false }));
}

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
    const found = /^ {0,3}(`{3,}|~{3,})/.exec(line)?.[1];
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
