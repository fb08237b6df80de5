import type { SetPermissionMode } from "../../wire/generated";

export type Mode = SetPermissionMode["mode"];

export interface Choice<Value> {
  readonly value: Value;
  readonly name: string;
  readonly about: string;
}

/** The CLI's own short names of models; it knows which versions they are. */
export const MODELS: readonly Choice<string | null>[] = [
  { value: null, name: "Default", about: "As configured in the CLI" },
  { value: "opus", name: "Opus", about: "For hard tasks" },
  { value: "sonnet", name: "Sonnet", about: "For everyday work" },
  { value: "haiku", name: "Haiku", about: "Quick and cheap" },
];

export const MODES: readonly Choice<Mode>[] = [
  { value: "default", name: "Ask", about: "Asks before it changes anything" },
  { value: "acceptEdits", name: "Edit", about: "Edits files without asking" },
  { value: "plan", name: "Plan", about: "Reads and plans, changes nothing" },
  { value: "auto", name: "Auto", about: "Asks only for what looks dangerous" },
  { value: "dontAsk", name: "Don't ask", about: "Denies everything that needs approval" },
  { value: "bypassPermissions", name: "Allow all", about: "Never asks; the server may refuse this" },
];

export function modelName(model: string | null): string {
  return MODELS.find(({ value }) => value === model)?.name ?? model ?? "Default";
}

export function modeName(mode: string | null): string {
  return MODES.find(({ value }) => value === (mode ?? "default"))?.name ?? mode ?? "Ask";
}
