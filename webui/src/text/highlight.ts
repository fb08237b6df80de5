import type { HLJSApi, LanguageFn } from "highlight.js";
import { sanitize } from "./sanitize";

/** Longer code is left as it is. */
const MAX_CHARACTERS = 60_000;

type Load = () => Promise<{ readonly default: LanguageFn }>;

const LOADERS: Readonly<Record<string, Load>> = {
  bash: () => import("highlight.js/lib/languages/bash"),
  cpp: () => import("highlight.js/lib/languages/cpp"),
  css: () => import("highlight.js/lib/languages/css"),
  diff: () => import("highlight.js/lib/languages/diff"),
  dockerfile: () => import("highlight.js/lib/languages/dockerfile"),
  go: () => import("highlight.js/lib/languages/go"),
  ini: () => import("highlight.js/lib/languages/ini"),
  java: () => import("highlight.js/lib/languages/java"),
  json: () => import("highlight.js/lib/languages/json"),
  markdown: () => import("highlight.js/lib/languages/markdown"),
  python: () => import("highlight.js/lib/languages/python"),
  ruby: () => import("highlight.js/lib/languages/ruby"),
  rust: () => import("highlight.js/lib/languages/rust"),
  sql: () => import("highlight.js/lib/languages/sql"),
  typescript: () => import("highlight.js/lib/languages/typescript"),
  xml: () => import("highlight.js/lib/languages/xml"),
  yaml: () => import("highlight.js/lib/languages/yaml"),
};

/** Other names of languages, and the endings of their files; the grammar of TypeScript reads JavaScript, too. */
// prettier-ignore
const ALIASES: Readonly<Record<string, string>> = {
  sh: "bash", shell: "bash", zsh: "bash", console: "bash", c: "cpp", h: "cpp", cc: "cpp", cxx: "cpp", hpp: "cpp", "c++": "cpp",
  scss: "css", less: "css", patch: "diff", docker: "dockerfile", golang: "go",
  toml: "ini", cfg: "ini", conf: "ini", javascript: "typescript", js: "typescript", mjs: "typescript", cjs: "typescript", jsx: "typescript",
  jsonc: "json", json5: "json", md: "markdown", py: "python",
  pyi: "python", rb: "ruby", rs: "rust", ts: "typescript", tsx: "typescript", mts: "typescript", html: "xml",
  htm: "xml", svg: "xml", vue: "xml", svelte: "xml", yml: "yaml",
};

let engine: Promise<HLJSApi> | undefined;

/** The language of a name or of a file's ending; null for one that is not known. */
export function languageOf(name: string): string | null {
  const lower = name.toLowerCase();
  const language = ALIASES[lower] ?? lower;
  return Object.hasOwn(LOADERS, language) ? language : null;
}

/** The language of a file by its path. */
export function languageOfPath(path: string): string | null {
  const file = path.slice(path.lastIndexOf("/") + 1);
  if (/^(?:docker|container)file/i.test(file)) return "dockerfile";
  return file.includes(".") ? languageOf(file.slice(file.lastIndexOf(".") + 1)) : null;
}

/** Code with its colours, once what that needs has been loaded; null where there is nothing to colour. */
export async function highlight(code: string, name: string): Promise<DocumentFragment | null> {
  const language = languageOf(name);
  const load = language === null ? undefined : LOADERS[language];
  if (language === null || load === undefined || code.length > MAX_CHARACTERS) return null;
  const core = await (engine ??= import("highlight.js/lib/core").then((module) => module.default));
  if (core.getLanguage(language) === undefined) core.registerLanguage(language, (await load()).default);
  return sanitize(core.highlight(code, { language, ignoreIllegals: true }).value);
}
