/** The one place where markup becomes nodes. What an agent writes is hostile until it has been through here. */
import createDOMPurify, { type Config, type DOMPurify } from "dompurify";

const CONFIG: Config & { RETURN_DOM_FRAGMENT: true } = {
  RETURN_DOM_FRAGMENT: true,
  // prettier-ignore
  ALLOWED_TAGS: [
    "a", "b", "blockquote", "br", "code", "dd", "del", "details", "div", "dl", "dt", "em", "h1", "h2", "h3", "h4",
    "h5", "h6", "hr", "i", "input", "ins", "kbd", "li", "mark", "ol", "p", "pre", "q", "s", "samp", "small", "span",
    "strong", "sub", "summary", "sup", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "u", "ul", "var",
  ],
  // No id or name, which would shadow properties of the page; no style; and no class but those below.
  ALLOWED_ATTR: [
    "href",
    "title",
    "class",
    "align",
    "start",
    "colspan",
    "rowspan",
    "type",
    "checked",
    "disabled",
    "open",
  ],
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
  ADD_URI_SAFE_ATTR: ["align", "start", "colspan", "rowspan", "type"],
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
};

/** The allowed classes, none of which makes text look like a part of the client. */
const CLASSES = /^(?:language-[\w+#.-]{1,40}|hljs-[\w-]{1,40}(?: [\w-]{1,40}_{0,2})*)$/;

let purifier: DOMPurify | undefined;

/** Harmless nodes of any markup. */
export function sanitize(markup: string): DocumentFragment {
  purifier ??= prepare();
  return purifier.sanitize(markup, CONFIG);
}

function prepare(): DOMPurify {
  const made = createDOMPurify(window);
  made.addHook("uponSanitizeAttribute", (_, data) => {
    if (data.attrName === "class" && !CLASSES.test(data.attrValue)) data.keepAttr = false;
  });
  made.addHook("afterSanitizeAttributes", (node) => {
    if (node.localName === "a") guardLink(node);
    else if (node.localName === "input") guardInput(node);
  });
  return made;
}

/** A link opens in a new page, without a referrer, and shows its target. */
function guardLink(link: Element): void {
  const href = link.getAttribute("href");
  if (href === null) return;
  link.setAttribute("target", "_blank");
  link.setAttribute("rel", "noopener noreferrer nofollow");
  if (!link.hasAttribute("title")) link.setAttribute("title", href);
}

/** The only field that text may contain is the box of a task, which does nothing. */
function guardInput(input: Element): void {
  if (input.getAttribute("type") !== "checkbox") input.remove();
  input.setAttribute("disabled", "");
  input.setAttribute("aria-label", input.hasAttribute("checked") ? "Done" : "To do");
}
