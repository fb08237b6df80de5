import { list, record, text } from "../../conversation/reading";
import { visible } from "../../text/visible";

/** What "allow for this session" changes, a line each, out of the CLI's permission suggestions; empty when nothing. */
export function suggestionsOf(suggestions: unknown): readonly string[] {
  return list(suggestions)
    .flatMap((value) => {
      const update = record(value);
      switch (update["type"]) {
        case "setMode":
          return `Permission mode: ${MODES[text(update["mode"])] ?? text(update["mode"])}`;
        case "addDirectories":
          return list(update["directories"]).map((path) => `Allows the directory ${String(path)}`);
        case "removeDirectories":
          return list(update["directories"]).map((path) => `Removes the directory ${String(path)}`);
        case "addRules":
        case "replaceRules":
        case "removeRules": {
          const verb = VERBS[text(update["behavior"])] ?? text(update["behavior"]);
          const how = update["type"] === "removeRules" ? `No longer ${verb.toLowerCase()}` : verb;
          const lines = list(update["rules"]).map((rule) => `${how} ${ruleOf(rule)}`);
          return update["type"] === "replaceRules" ? ["Replaces the rules for that so far", ...lines] : lines;
        }
        default:
          return JSON.stringify(value);
      }
    })
    .map(visible);
}

const VERBS: Readonly<Record<string, string>> = { "": "Allows", allow: "Allows", deny: "Denies", ask: "Asks for" };

const MODES: Readonly<Record<string, string>> = {
  acceptEdits: "all edits of files",
  bypassPermissions: "everything",
  auto: "actions that the CLI considers safe",
};

function ruleOf(value: unknown): string {
  const rule = record(value);
  const content = text(rule["ruleContent"]);
  return content === "" ? `every use of ${text(rule["toolName"])}` : `${text(rule["toolName"])}: ${content}`;
}
