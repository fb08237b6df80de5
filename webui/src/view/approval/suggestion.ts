import { list, record, text } from "../../conversation/reading";

/**
 * What "allow for this session" would allow, in a line, out of the CLI's permission suggestions; null when it
 * suggests nothing, so that there is nothing to remember.
 */
export function suggestionOf(suggestions: unknown): string | null {
  const said = list(suggestions).map((value) => {
    const update = record(value);
    switch (update["type"]) {
      case "setMode":
        return MODES[text(update["mode"])] ?? `mode ${text(update["mode"])}`;
      case "addDirectories":
        return `the directory ${list(update["directories"]).map(String).join(", ")}`;
      case "addRules":
      case "replaceRules":
        return list(update["rules"]).map(ruleOf).join(", ");
      default:
        return text(update["type"]);
    }
  });
  return said.length === 0 ? null : said.filter(Boolean).join("; ");
}

const MODES: Readonly<Record<string, string>> = {
  acceptEdits: "all edits of files",
  bypassPermissions: "everything",
  auto: "what the CLI takes for safe",
};

function ruleOf(value: unknown): string {
  const rule = record(value);
  const content = text(rule["ruleContent"]);
  return content === "" ? text(rule["toolName"]) : `${text(rule["toolName"])}: ${content}`;
}
