/** An entry of the log, taken apart into what is shown of it and what it says about other entries. */
import type { ApprovalRequestedData, ErrorData, ExecutionPausedData, MessageData, PromptData } from "../wire/generated";
import type { Outcome } from "../store/approvals";
import { formatCount, untilText } from "../text/format";
import { visible } from "../text/visible";
import type { Image, Item, Place, ToolResult } from "./item";
import { list, number, optionalText, record, text, type Loose } from "./reading";

/** What an entry is made of, whether it came as a frame or in a page of history. */
export interface RawEntry {
  readonly offset: number;
  readonly timestamp: string;
  readonly type: string;
  readonly data: unknown;
  /** Where `data` is a preview: the bytes of the whole, and JSON pointers to what is missing. */
  readonly size?: number | null | undefined;
  readonly cut?: readonly string[] | undefined;
}

export interface Entry {
  readonly offset: number;
  /** About how many characters it holds in memory. */
  readonly weight: number;
  readonly items: readonly Item[];
  /** Answers of tools by the id of their call. */
  readonly results: readonly (readonly [string, ToolResult])[];
  /** Requests for an approval by the id of the tool call that they are for. */
  readonly requests: readonly (readonly [string, string])[];
  /** How requests ended, by their id. */
  readonly outcomes: readonly (readonly [string, Outcome])[];
  /** For the prompt and the end of an execution. */
  readonly executionId: string | null;
}

interface Draft {
  readonly raw: RawEntry;
  items: Item[];
  results: (readonly [string, ToolResult])[];
  requests: (readonly [string, string])[];
  outcomes: (readonly [string, Outcome])[];
  executionId: string | null;
}

type Unplaced<Kind> = Kind extends Item ? Omit<Kind, keyof Place> & { readonly at?: string } : never;

/** Takes one entry apart; what is not known shows nothing. */
export function readEntry(raw: RawEntry): Entry {
  const draft: Draft = { raw, items: [], results: [], requests: [], outcomes: [], executionId: null };
  const add: Add = (item, path = "") => {
    const place = { key: `${raw.offset}.${draft.items.length}`, offset: raw.offset, at: item.at ?? raw.timestamp };
    draft.items.push({ ...item, ...place, ...(isCut(raw, path) ? { size: raw.size ?? 0 } : {}) });
  };
  const data = record(raw.data);
  readers[raw.type]?.(data, draft, add);
  if (data["type"] === "assistant" && draft.items.length === 0 && isCut(raw, CONTENT)) {
    add({ kind: "notice", tone: "plain", text: "A large entry" });
  }
  const { items, results, requests, outcomes, executionId } = draft;
  const said = { items, results, requests, outcomes, executionId };
  return { offset: raw.offset, weight: weigh(said), ...said };
}

/** The entries of a page. */
export function entriesOf({ messages }: { readonly messages: readonly MessageData[] }): RawEntry[] {
  return messages.map(({ message, ...entry }) => ({ ...entry, data: message }));
}

/** Whether it is a prompt that begins a turn of the agent: not in a terminal, and not written into a running turn. */
export function beginsTurn({ type, data }: RawEntry): boolean {
  const { steers, typed_at } = record(data);
  return type === "prompt" && typeof steers !== "string" && typeof typed_at !== "string";
}

const CONTENT = "/message/content";

/** Whether something is missing in the part of an entry to which a JSON pointer leads, or around it. */
function isCut({ cut = [] }: RawEntry, path: string): boolean {
  return cut.some((place) => `${place}/`.startsWith(`${path}/`) || `${path}/`.startsWith(`${place}/`));
}

/** Adds what a part of the entry's data says; "" is all of it. */
type Add = (item: Unplaced<Item>, path?: string) => void;
type Reader = (data: Loose, draft: Draft, add: Add) => void;

const readers: Readonly<Record<string, Reader>> = {
  prompt(data, draft, add) {
    const { prompt, by, execution_id, continues, steers, typed_at } = data as unknown as PromptData;
    const executionId = text(execution_id);
    draft.executionId = executionId;
    if (typeof continues === "string") {
      add({ kind: "notice", tone: "divider", text: "The paused prompt continues", executionId });
    } else {
      const at = optionalText(typed_at) ?? draft.raw.timestamp;
      const isSteering = typeof steers === "string";
      add({ kind: "prompt", text: text(prompt), by: text(by), executionId, isSteering, at });
    }
  },
  execution_paused(data, _, add) {
    const { message, until } = data as unknown as ExecutionPausedData;
    const said = `Paused: ${text(message)} ${untilText(optionalText(until))}`;
    add({ kind: "notice", tone: "plain", text: said.trim() });
  },
  approval_requested(data, draft, add) {
    const request = data as unknown as ApprovalRequestedData;
    const toolUseId = optionalText(data["tool_use_id"]);
    if (toolUseId === null) add({ kind: "approval", request });
    else draft.requests.push([toolUseId, text(data["approval_id"])]);
  },
  approval_resolved(data, draft) {
    const behavior = data["behavior"] === "allow" ? "allow" : "deny";
    const changed = data["updated_input"] ?? data["content"];
    const input = typeof changed === "object" && changed !== null ? record(changed) : undefined;
    const outcome = { behavior, by: text(data["by"]), message: optionalText(data["message"]), input } as const;
    draft.outcomes.push([text(data["approval_id"]), outcome]);
  },
  approval_cancelled(data, draft) {
    const outcome = { behavior: "withdrawn", by: null, message: optionalText(data["reason"]) } as const;
    draft.outcomes.push([text(data["approval_id"]), outcome]);
  },
  process_killed(_, __, add) {
    add({ kind: "notice", tone: "danger", text: "The execution was killed." });
  },
  session_reset(_, __, add) {
    add({ kind: "notice", tone: "divider", text: "New session" });
  },
  session_resumed(data, _, add) {
    const title = text(data["title"]) === "" ? "an older session" : `“${visible(text(data["title"]))}”`;
    add({ kind: "notice", tone: "divider", text: `${data["fork"] === true ? "Copy of" : "Back to"} ${title}` });
  },
  terminal_turns(data, _, add) {
    const lost =
      "The session's file was replaced. Turns in a terminal may be missing here; “Older sessions” has the file.";
    if (data["lost"] === true) add({ kind: "notice", tone: "plain", text: lost });
    else add({ kind: "notice", tone: "divider", text: "In a terminal" });
  },
  agent_partial(data, _, add) {
    if (text(data["thinking"]) !== "") add({ kind: "thinking", text: text(data["thinking"]), parent: null });
    if (text(data["text"]) !== "") add({ kind: "text", text: text(data["text"]), parent: null });
    add({ kind: "notice", tone: "plain", text: "The agent was stopped while writing this." });
  },
  error(data, _, add) {
    const { message, details } = data as unknown as ErrorData;
    const excerpt = optionalText(details?.["excerpt"]);
    add({ kind: "notice", tone: "danger", text: [text(message), excerpt].filter(Boolean).join("\n") });
  },
  agent_message(data, draft, add) {
    lines[text(data["type"])]?.(data, draft, add);
  },
};

/** The lines of the CLI by their type. */
const lines: Readonly<Record<string, Reader>> = {
  assistant(data, _, add) {
    const parent = optionalText(data["parent_tool_use_id"]);
    for (const [at, value] of list(record(data["message"])["content"]).entries()) {
      const block = record(value);
      const path = `${CONTENT}/${at}`;
      switch (block["type"]) {
        case "text":
          if (text(block["text"]).trim() !== "") add({ kind: "text", text: text(block["text"]), parent }, path);
          break;
        case "thinking":
          if (text(block["thinking"]) !== "") add({ kind: "thinking", text: text(block["thinking"]), parent }, path);
          break;
        case "tool_use":
        case "server_tool_use":
          add({ kind: "tool", id: text(block["id"]), name: text(block["name"]), input: block["input"], parent }, path);
          break;
        default:
      }
    }
  },
  user(data, draft, add) {
    if (data["isReplay"] === true) return;
    const { raw } = draft;
    for (const [at, value] of list(record(data["message"])["content"]).entries()) {
      const block = record(value);
      const path = `${CONTENT}/${at}`;
      const rest = isCut(raw, path) ? { rest: { offset: raw.offset, size: raw.size ?? 0 } } : {};
      if (block["type"] === "tool_result") {
        draft.results.push([text(block["tool_use_id"]), { ...readResult(block, rest.rest !== undefined), ...rest }]);
      } else if (block["type"] === "text" && optionalText(data["parent_tool_use_id"]) === null) {
        const said = text(block["text"]).trim();
        if (said !== "") add({ kind: "notice", tone: "plain", text: said }, path);
      }
    }
  },
  result(data, _, add) {
    const usage = record(data["usage"]);
    const taken = INPUT_TOKENS.map((name) => number(usage[name])).filter((count) => count !== null);
    const failed = data["is_error"] === true;
    const milliseconds = number(data["duration_ms"]);
    add(
      {
        kind: "result",
        failed,
        message: failed ? text(data["result"]) || list(data["errors"]).map(String).join("; ") : "",
        seconds: milliseconds === null ? null : milliseconds / 1000,
        inputTokens: taken.length === 0 ? null : taken.reduce((sum, count) => sum + count, 0),
        outputTokens: number(usage["output_tokens"]),
      },
      failed ? "/result" : "/usage",
    );
  },
  system(data, _, add) {
    if (data["subtype"] === "api_retry") {
      const wait = (number(data["retry_delay_ms"]) ?? 0) / 1000;
      const why = number(data["error_status"]) ?? text(data["error"]);
      const said = `The model does not answer${why === "" ? "" : ` (${why})`}; retrying in ${wait.toFixed(1)} s.`;
      add({ kind: "notice", tone: "plain", text: said });
    } else if (data["subtype"] === "compact_boundary") {
      const { pre_tokens, post_tokens } = record(data["compact_metadata"]);
      const sizes = [pre_tokens, post_tokens].map(number).filter((count) => count !== null);
      const said = sizes.length === 0 ? "" : ` (${sizes.map(formatCount).join(" to ")} tokens)`;
      add({ kind: "notice", tone: "divider", text: `The conversation was summarised${said}` });
    } else if (data["subtype"] === "elicitation_complete") {
      const said = `The MCP server ${visible(text(data["mcp_server_name"]))} reports that its page is done.`;
      add({ kind: "notice", tone: "plain", text: said });
    }
  },
  auth_status(data, _, add) {
    const error = text(data["error"]);
    if (error !== "") add({ kind: "notice", tone: "danger", text: `The login failed: ${error}` });
    else if (data["isAuthenticating"] === true) {
      const said = ["The agent logs in.", ...list(data["output"]).map(text)].join("\n");
      add({ kind: "notice", tone: "plain", text: said });
    }
  },
};

const INPUT_TOKENS = ["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"] as const;
const IMAGE_TYPES: ReadonlySet<string> = new Set(["image/png", "image/jpeg", "image/gif", "image/webp"]);

function readResult(block: Loose, isPreview: boolean): ToolResult {
  const content = block["content"];
  const images: Image[] = [];
  const parts: string[] = [];
  for (const part of typeof content === "string" ? [{ type: "text", text: content }] : list(content)) {
    const { type, text: said, source } = record(part);
    const { media_type, data } = record(source);
    if (typeof said === "string") parts.push(said);
    else if (type === "image" && IMAGE_TYPES.has(text(media_type))) {
      if (isPreview) parts.push("[image]");
      else images.push({ type: text(media_type), data: text(data) });
    } else parts.push(`[${text(type) || typeof part}]`);
  }
  return { text: parts.join("\n"), images, failed: block["is_error"] === true };
}

/** Adds up the characters of all text in a value. */
function weigh(value: unknown): number {
  if (typeof value === "string") return value.length;
  if (typeof value !== "object" || value === null) return 8;
  let sum = 16;
  for (const part of Object.values(value)) sum += weigh(part);
  return sum;
}
