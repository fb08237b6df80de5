import { expect, test } from "vitest";
import { languageOf, languageOfPath } from "../../src/text/highlight";

test("languages by their names", () => {
  expect(["py", "TS", "c++", "constructor", "", "klingon"].map(languageOf)).toEqual([
    "python",
    "typescript",
    "cpp",
    null,
    null,
    null,
  ]);
});

test("languages by the path of a file", () => {
  expect(["/a/b.rs", "Dockerfile", "/x/Dockerfile.dev", "noext", "/a.b/noext", ".html"].map(languageOfPath)).toEqual([
    "rust",
    "dockerfile",
    "dockerfile",
    null,
    null,
    "xml",
  ]);
});
