/**
 * What the page of devices and the one to pair say is a claim about the server. `sentences.json` names the test that
 * holds each sentence; tests/test_security_page.py looks whether these tests exist.
 */
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import ts from "typescript";
import { expect, test } from "vitest";

const VIEW = join(import.meta.dirname, "../../src/view");
const LIST = join(import.meta.dirname, "sentences.json");
/** Shorter ones are names of things: labels of buttons, headings. */
const LEAST_WORDS = 4;
const STYLE = new Set(["class", "type", "name", "form", "d"]);

/** Each text that a person reads, with `…` for what is filled in. */
function textsOf(source: ts.SourceFile): readonly string[] {
  const found: string[] = [];
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node) || ts.isLiteralTypeNode(node)) return;
    if (ts.isJsxAttribute(node) && ts.isIdentifier(node.name) && STYLE.has(node.name.text)) return;
    if ((ts.isJsxElement(node) || ts.isJsxFragment(node)) && node.children.some(saysSomething)) {
      found.push(wordsOf(node.children, found));
      if (ts.isJsxElement(node)) visit(node.openingElement);
      return;
    }
    if (ts.isStringLiteral(node) || ts.isNoSubstitutionTemplateLiteral(node)) found.push(node.text);
    if (ts.isTemplateExpression(node)) {
      found.push(node.head.text + node.templateSpans.map(({ literal }) => `…${literal.text}`).join(""));
      node.templateSpans.forEach(({ expression }) => visit(expression));
      return;
    }
    ts.forEachChild(node, visit);
  };
  /** The text of an element; that of its expressions is found by itself, unless it is a literal. */
  const wordsOf = (children: readonly ts.JsxChild[], rest: string[]): string =>
    children
      .map((child) => {
        if (ts.isJsxText(child)) return child.text;
        if (ts.isJsxElement(child) || ts.isJsxFragment(child)) {
          if (isBlock(child)) {
            visit(child);
            return "\n";
          }
          return wordsOf(child.children, rest);
        }
        if (!ts.isJsxExpression(child) || child.expression === undefined) return "";
        if (ts.isStringLiteral(child.expression)) return child.expression.text;
        visit(child.expression);
        return "…";
      })
      .join("");
  visit(source);
  return found;
}

function saysSomething(child: ts.JsxChild): boolean {
  return ts.isJsxText(child) && /\p{L}/u.test(child.text);
}

function isBlock(node: ts.JsxElement | ts.JsxFragment): boolean {
  return ts.isJsxElement(node) && /^(?:small|p|div|li|input|select)$/.test(node.openingElement.tagName.getText());
}

function sentencesOf(path: string): readonly string[] {
  const source = ts.createSourceFile(
    path,
    readFileSync(path, "utf-8"),
    ts.ScriptTarget.Latest,
    true,
    ts.ScriptKind.TSX,
  );
  return textsOf(source)
    .flatMap((text) => text.replaceAll("&rsquo;", "'").split("\n\n"))
    .map((text) => text.replaceAll(/\s+/g, " ").trim())
    .flatMap((text) => text.split(/(?<=[.?!])\s+/))
    .filter((sentence) => sentence.split(" ").filter((word) => /\p{L}/u.test(word)).length >= LEAST_WORDS);
}

test("each sentence of the page of devices and of the one to pair has a test that holds it", () => {
  const files = readdirSync(join(VIEW, "devices")).filter((name) => name.endsWith(".tsx"));
  const said = [...files.map((name) => join(VIEW, "devices", name)), join(VIEW, "pairing", "pairing.tsx")].flatMap(
    sentencesOf,
  );
  const listed = JSON.parse(readFileSync(LIST, "utf-8")) as Record<string, readonly string[]>;
  expect(Object.keys(listed).toSorted()).toEqual([...new Set(said)].toSorted());
  expect(Object.entries(listed).filter(([, tests]) => tests.length === 0)).toEqual([]);
});
