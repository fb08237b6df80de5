import { expect, test } from "vitest";
import { suggestionsOf } from "../../src/view/approval/suggestion";

test.each([
  [[{ type: "setMode", mode: "acceptEdits", destination: "session" }], ["Permission mode: all edits of files"]],
  [[{ type: "setMode", mode: "new" }], ["Permission mode: new"]],
  [
    [{ type: "addRules", rules: [{ toolName: "Bash", ruleContent: "npm test:*" }], behavior: "allow" }],
    ["Allows Bash: npm test:*"],
  ],
  [
    [
      { type: "addRules", rules: [{ toolName: "WebSearch" }, { toolName: "Read", ruleContent: "/etc/**" }] },
      { type: "addDirectories", directories: ["/tmp", "/srv"] },
    ],
    ["Allows every use of WebSearch", "Allows Read: /etc/**", "Allows the directory /tmp", "Allows the directory /srv"],
  ],
  [
    [{ type: "replaceRules", rules: [{ toolName: "Bash" }], behavior: "deny" }],
    ["Replaces the rules for that so far", "Denies every use of Bash"],
  ],
  [
    [{ type: "removeRules", rules: [{ toolName: "Bash", ruleContent: "rm:*" }], behavior: "ask" }],
    ["No longer asks for Bash: rm:*"],
  ],
  [[{ type: "addRules", rules: [{ toolName: "Bash", ruleContent: "ls \u2067x" }] }], ["Allows Bash: ls <U+2067>x"]],
  [[], []],
  [null, []],
  ["nonsense", []],
  [[{ type: "from_the_future", more: 1 }], ['{"type":"from_the_future","more":1}']],
])("%j does %j", (suggestions, said) => expect(suggestionsOf(suggestions)).toEqual(said));
