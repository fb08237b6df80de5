import type { HLJSApi } from "highlight.js";
import { sanitize } from "./sanitize";

/** Longer code is left as it is. */
const MAX_CHARACTERS = 60_000;

/** The languages whose grammars `grammars.ts` has. */
const LANGUAGES = [
  "bash",
  "cpp",
  "css",
  "diff",
  "dockerfile",
  "go",
  "ini",
  "java",
  "json",
  "markdown",
  "python",
  "ruby",
  "rust",
  "sql",
  "typescript",
  "xml",
  "yaml",
] as const;
export type Language = (typeof LANGUAGES)[number];

/** Other names of languages, and the endings of their files; the grammar of TypeScript reads JavaScript, too. */
// prettier-ignore
const ALIASES: Readonly<Record<string, Language>> = {
  sh: "bash", shell: "bash", zsh: "bash", console: "bash", c: "cpp", h: "cpp", cc: "cpp", cxx: "cpp", hpp: "cpp", "c++": "cpp",
  scss: "css", less: "css", patch: "diff", docker: "dockerfile", golang: "go",
  toml: "ini", cfg: "ini", conf: "ini", javascript: "typescript", js: "typescript", mjs: "typescript", cjs: "typescript", jsx: "typescript",
  jsonc: "json", json5: "json", md: "markdown", py: "python",
  pyi: "python", rb: "ruby", rs: "rust", ts: "typescript", tsx: "typescript", mts: "typescript", html: "xml",
  htm: "xml", svg: "xml", vue: "xml", svelte: "xml", yml: "yaml",
};

let engine: Promise<HLJSApi> | undefined;

/** The language of a name or of a file's ending; null for one that is not known. */
export function languageOf(name: string): Language | null {
  const lower = name.toLowerCase();
  return (
    LANGUAGES.find((language) => language === lower) ?? (Object.hasOwn(ALIASES, lower) ? ALIASES[lower] : null) ?? null
  );
}

/** The language of a file by its path. */
export function languageOfPath(path: string): Language | null {
  const file = path.slice(path.lastIndexOf("/") + 1);
  if (/^(?:docker|container)file/i.test(file)) return "dockerfile";
  return file.includes(".") ? languageOf(file.slice(file.lastIndexOf(".") + 1)) : null;
}

/** Code with its colours, once what that needs has been loaded; null where there is nothing to colour. */
export async function highlight(code: string, name: string): Promise<DocumentFragment | null> {
  const language = languageOf(name);
  if (language === null || code.length > MAX_CHARACTERS) return null;
  const core = await (engine ??= import("./grammars").then((module) => module.default));
  return sanitize(core.highlight(code, { language, ignoreIllegals: true }).value);
}
