import { expect, test } from "vitest";
import { beginsTurn, readEntry, type Entry } from "../../src/conversation/entry";
import { formatTime } from "../../src/text/format";

function read(type: string, data: unknown): Entry {
  return readEntry({ offset: 7, timestamp: "2026-01-01T00:00:00.000Z", type, data });
}

function line(data: object): Entry {
  return read("agent_message", data);
}

const PLACE = { offset: 7, at: "2026-01-01T00:00:00.000Z" };

test("a prompt with who gave it", () => {
  const entry = read("prompt", { execution_id: "x", prompt: "do it", by: "phone", prompt_id: "1" });
  const prompt = { kind: "prompt", key: "7.0", text: "do it", by: "phone", executionId: "x", isSteering: false };
  expect(entry.items).toEqual([{ ...prompt, ...PLACE }]);
  expect(entry.executionId).toBe("x");
});

test("a prompt for the running turn, and one that continues a paused execution", () => {
  const prompt = { execution_id: "x", prompt: "The server's words", by: "phone" };
  expect(read("prompt", { ...prompt, steers: "y" }).items).toMatchObject([{ kind: "prompt", isSteering: true }]);
  expect(read("prompt", { ...prompt, continues: "lost" }).items).toMatchObject([
    { kind: "notice", tone: "divider", text: "The paused prompt continues", executionId: "x" },
  ]);
});

const UNTIL = "2026-01-01T14:05:00Z";

test.each([
  [
    "execution_paused",
    { execution_id: "x", reason: "usage_limit", message: "A limit is reached.", until: UNTIL },
    `Paused: A limit is reached. Continues at ${formatTime(UNTIL)}.`,
  ],
  [
    "execution_paused",
    { execution_id: "x", reason: "lost", message: "It is gone.", until: null },
    "Paused: It is gone.",
  ],
  [
    "agent_message",
    { type: "system", subtype: "elicitation_complete", mcp_server_name: "files\u202e", elicitation_id: "e" },
    "The MCP server files<U+202E> reports that its page is done.",
  ],
  [
    "agent_message",
    { type: "auth_status", isAuthenticating: true, output: ["Open this:", "https://b.example"] },
    "The agent logs in.\nOpen this:\nhttps://b.example",
  ],
  ["agent_message", { type: "auth_status", isAuthenticating: false, error: "denied" }, "The login failed: denied"],
  [
    "agent_message",
    { type: "system", subtype: "api_retry", retry_delay_ms: 500, error_status: 529, error: "overloaded" },
    "The model does not answer (529); retrying in 0.5 s.",
  ],
  [
    "agent_message",
    { type: "system", subtype: "compact_boundary", compact_metadata: { pre_tokens: 155_000, post_tokens: 4000 } },
    "The conversation was summarised (155K to 4K tokens)",
  ],
])("%s in words: %o", (type, data, text) => {
  expect(read(type, data).items).toMatchObject([{ kind: "notice", text }]);
});

test("the blocks of a message are items of their own, in order", () => {
  const content = [
    { type: "thinking", thinking: "hm" },
    { type: "text", text: "Hello" },
    { type: "text", text: " \n" },
    { type: "tool_use", id: "t", name: "Bash", input: { command: "ls" } },
    { type: "never_heard_of" },
  ];
  const { items } = line({ type: "assistant", message: { content }, parent_tool_use_id: "parent" });
  expect(items.map(({ key, kind }) => [key, kind])).toEqual([
    ["7.0", "thinking"],
    ["7.1", "text"],
    ["7.2", "tool"],
  ]);
  expect(items[2]).toMatchObject({ id: "t", name: "Bash", input: { command: "ls" }, parent: "parent" });
});

test("what a tool answered belongs to its call", () => {
  const content = [
    { type: "tool_result", tool_use_id: "a", content: "plain" },
    {
      type: "tool_result",
      tool_use_id: "b",
      is_error: true,
      content: [
        { type: "text", text: "one" },
        { type: "text", text: "two" },
      ],
    },
    {
      type: "tool_result",
      tool_use_id: "c",
      content: [
        { type: "image", source: { media_type: "image/png", data: "AAAA" } },
        { type: "image", source: { media_type: "image/svg+xml", data: "<svg/>" } },
        { type: "strange" },
      ],
    },
  ];
  const { items, results } = line({ type: "user", message: { content } });
  expect(items).toEqual([]);
  expect(results).toEqual([
    ["a", { text: "plain", images: [], failed: false }],
    ["b", { text: "one\ntwo", images: [], failed: true }],
    ["c", { text: "[image]\n[strange]", images: [{ type: "image/png", data: "AAAA" }], failed: false }],
  ]);
});

test("an answer without content is empty", () => {
  const { results } = line({ type: "user", message: { content: [{ type: "tool_result", tool_use_id: "a" }] } });
  expect(results[0]?.[1].text).toBe("");
});

test("the end of a turn with its figures", () => {
  const usage = { input_tokens: 1, cache_creation_input_tokens: 20, cache_read_input_tokens: 300, output_tokens: 4 };
  const { items } = line({ type: "result", is_error: false, duration_ms: 1500, usage, result: "said already" });
  expect(items[0]).toMatchObject({
    kind: "result",
    failed: false,
    message: "",
    seconds: 1.5,
    inputTokens: 321,
    outputTokens: 4,
  });
  const failed = line({ type: "result", is_error: true, errors: ["one", "two"] });
  expect(failed.items[0]).toMatchObject({ failed: true, message: "one; two", seconds: null, inputTokens: null });
});

test("approvals belong to the call that they are for", () => {
  const request = { approval_id: "a", tool_name: "Bash", input: {}, suggestions: [], tool_use_id: "t" };
  expect(read("approval_requested", request)).toMatchObject({ items: [], requests: [["t", "a"]] });
  const homeless = read("approval_requested", { ...request, tool_use_id: null });
  expect(homeless.items[0]).toMatchObject({ kind: "approval", request: { approval_id: "a" } });
  expect(read("approval_resolved", { approval_id: "a", behavior: "deny", by: "me", message: "no" }).outcomes).toEqual([
    ["a", { behavior: "deny", by: "me", message: "no" }],
  ]);
  expect(read("approval_cancelled", { approval_id: "a", reason: "over" }).outcomes).toEqual([
    ["a", { behavior: "withdrawn", by: null, message: "over" }],
  ]);
});

test.each([
  ["process_killed", {}, "danger"],
  ["session_reset", {}, "divider"],
  ["error", { code: "EXECUTION_FAILED", message: "It failed.", details: { excerpt: "{{" } }, "danger"],
  ["agent_message", { type: "system", subtype: "api_retry", retry_delay_ms: 500 }, "plain"],
  ["agent_message", { type: "system", subtype: "compact_boundary" }, "divider"],
  [
    "agent_message",
    { type: "user", message: { content: [{ type: "text", text: "[Request interrupted by user]" }] } },
    "plain",
  ],
])("%s is told", (type, data, tone) => {
  expect(read(type, data).items).toMatchObject([{ kind: "notice", tone }]);
});

test.each([
  { type: "system", subtype: "init" },
  { type: "command_lifecycle", state: "queued" },
  { type: "user", isReplay: true, message: { content: [{ type: "text", text: "again" }] } },
  { type: "user", message: { content: "a string" } },
  { type: "stream_event", event: {} },
  { type: "from_the_future", anything: [1] },
  {},
])("what says nothing to a person shows nothing: %o", (data) => {
  expect(line(data).items).toEqual([]);
});

test.each([
  null,
  undefined,
  1,
  "text",
  [],
  [null],
  { message: null },
  { type: "assistant", message: { content: [null, 1, "x", {}] } },
])("nothing that is not as expected does harm: %o", (data) => {
  const types = ["agent_message", "prompt", "approval_requested", "approval_resolved", "error", "unheard_of"];
  for (const type of [...types, "execution_paused"]) {
    expect(() => read(type, data)).not.toThrow();
  }
});

test("the weight is about the characters that are kept", () => {
  const text = "x".repeat(100_000);
  expect(line({ type: "assistant", message: { content: [{ type: "text", text }] } }).weight).toBeGreaterThan(100_000);
  expect(line({ type: "system", subtype: "init", tools: [text] }).weight).toBeLessThan(1000);
});

test("what is only a beginning says how large the whole is", () => {
  const content = [
    { type: "text", text: "short" },
    { type: "tool_use", id: "t", name: "Write", input: { content: "lon" } },
  ];
  const preview = (data: object, cut: readonly string[]): ReturnType<typeof readEntry> =>
    readEntry({ offset: 7, timestamp: "t", type: "agent_message", data, size: 119_000, cut });
  const call = preview({ type: "assistant", message: { content } }, ["/message/content/1/input/content"]);
  expect(call.items.map(({ size }) => size)).toEqual([undefined, 119_000]);
  const result = { type: "tool_result", tool_use_id: "t", content: "done" };
  const answer = { type: "user", message: { content: [result] } };
  expect(preview(answer, ["/tool_use_result/originalFile"]).results[0]?.[1].rest).toBe(undefined);
  expect(preview(answer, ["/message/content/0/content"]).results[0]?.[1].rest).toEqual({ offset: 7, size: 119_000 });
  expect(preview({ type: "assistant", message: {} }, ["/message"]).items[0]?.size).toBe(119_000);
  expect(preview({ type: "user", isReplay: true, message: {} }, [""]).items).toEqual([]);
});

test("turns of a terminal are shown as such, at the time at which they were typed", () => {
  const begin = readEntry({ offset: 1, timestamp: "2026-01-02T00:00:00Z", type: "terminal_turns", data: {} });
  expect(begin.items).toMatchObject([{ kind: "notice", tone: "divider", text: "In a terminal" }]);
  const data = { prompt: "hello", by: "terminal", execution_id: "u", typed_at: "2026-01-01T00:00:00Z" };
  const raw = { offset: 2, timestamp: "2026-01-02T00:00:00Z", type: "prompt", data };
  expect(readEntry(raw).items).toMatchObject([{ kind: "prompt", at: "2026-01-01T00:00:00Z", isSteering: false }]);
  expect(beginsTurn(raw)).toBe(false);
  const lost = readEntry({ ...raw, type: "terminal_turns", data: { lost: true } });
  expect(lost.items[0]).toMatchObject({ kind: "notice", tone: "plain" });
});
