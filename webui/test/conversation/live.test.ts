// @vitest-environment happy-dom
import { beforeEach, expect, test, vi } from "vitest";
import { Live } from "../../src/conversation/live";

let live: Live;

beforeEach(() => {
  vi.stubGlobal("requestAnimationFrame", (tell: () => void) => {
    tell();
    return 0;
  });
  live = new Live();
});

function start(block: object): void {
  live.accept({ type: "stream_event", event: { type: "content_block_start", content_block: block } });
}

function delta(delta: object, more: object = {}): void {
  live.accept({ type: "stream_event", event: { type: "content_block_delta", delta }, ...more });
}

test("text grows as it comes", () => {
  start({ type: "text" });
  delta({ type: "text_delta", text: "Hel" });
  delta({ type: "text_delta", text: "lo" });
  expect(live.current.value).toEqual({ kind: "text", text: "Hello" });
  live.clear();
  expect(live.current.value).toBeNull();
});

test("thinking, text and tool calls follow each other", () => {
  start({ type: "thinking" });
  delta({ type: "thinking_delta", thinking: "hm" });
  expect(live.current.value).toEqual({ kind: "thinking", text: "hm" });
  start({ type: "text" });
  expect(live.current.value).toEqual({ kind: "text", text: "" });
  start({ type: "tool_use", name: "Bash" });
  delta({ type: "input_json_delta", partial_json: "{" });
  expect(live.current.value).toEqual({ kind: "tool", text: "Bash" });
});

test("a join in the middle of a message has the text so far, and goes on", () => {
  live.join({ text: "So far", thinking: "" }, false);
  delta({ type: "text_delta", text: " so good" });
  expect(live.current.value).toEqual({ kind: "text", text: "So far so good" });
});

test("who is behind sees the next block, not the rest of this one", () => {
  live.join({ text: "So far", thinking: "" }, true);
  delta({ type: "text_delta", text: "the rest" });
  expect(live.current.value).toBeNull();
  start({ type: "text" });
  delta({ type: "text_delta", text: "next" });
  expect(live.current.value?.text).toBe("next");
});

test("what a subagent writes is not shown before it is whole", () => {
  delta({ type: "text_delta", text: "x" }, { parent_tool_use_id: "t" });
  expect(live.current.value).toBeNull();
});

test.each([{}, { event: null }, { event: { type: "content_block_delta" } }, { event: { type: "message_stop" } }])(
  "other events say nothing: %o",
  (line) => {
    live.accept(line);
    expect(live.current.value).toBeNull();
  },
);
