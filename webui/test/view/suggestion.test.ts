import { expect, test } from "vitest";
import { suggestionOf } from "../../src/view/approval/suggestion";

test.each([
  [[{ type: "setMode", mode: "acceptEdits", destination: "session" }], "all edits of files"],
  [
    [{ type: "addRules", rules: [{ toolName: "Bash", ruleContent: "npm test:*" }], behavior: "allow" }],
    "Bash: npm test:*",
  ],
  [
    [
      { type: "addRules", rules: [{ toolName: "WebSearch" }] },
      { type: "addDirectories", directories: ["/tmp"] },
    ],
    "WebSearch; the directory /tmp",
  ],
  [[], null],
  [null, null],
  ["nonsense", null],
  [[{ type: "from_the_future" }], "from_the_future"],
])("%o allows %s", (suggestions, said) => expect(suggestionOf(suggestions)).toBe(said));
