import { signal, type ReadonlySignal } from "@preact/signals";
import type { PartialData } from "../wire/generated";
import { optionalText, record, text, type Loose } from "./reading";

/** The message that is being written, as far as it is not in the log yet. */
export interface LiveBlock {
  readonly kind: "text" | "thinking" | "tool";
  /** The text so far; for a tool call its name. */
  readonly text: string;
}

/** Follows the CLI's partial messages, which are never stored. */
export class Live {
  private readonly shown = signal<LiveBlock | null>(null);
  private block: LiveBlock | null = null;
  /** The beginning of the block is not known, so that its rest is not shown; it comes whole. */
  private skipping = false;
  private scheduled = false;

  get current(): ReadonlySignal<LiveBlock | null> {
    return this.shown;
  }

  /** Applies the partial message of a join; does nothing while older entries are missing. */
  join(partial: PartialData | null | undefined, behind: boolean): void {
    this.skipping = behind;
    this.set(null);
    if (behind || !partial) return;
    if (partial.text !== "") this.set({ kind: "text", text: partial.text });
    else if (partial.thinking !== "") this.set({ kind: "thinking", text: partial.thinking });
  }

  /** Takes a `stream_event` line. */
  accept(line: Loose): void {
    if (optionalText(line["parent_tool_use_id"]) !== null) return; // what a subagent writes is shown when it is whole
    const event = record(line["event"]);
    if (event["type"] === "content_block_start") {
      this.skipping = false;
      const { type, name } = record(event["content_block"]);
      if (type === "text" || type === "thinking") this.set({ kind: type, text: "" });
      else if (type === "tool_use") this.set({ kind: "tool", text: text(name) });
      else this.set(null);
    } else if (event["type"] === "content_block_delta" && !this.skipping) {
      const { type, text: said, thinking } = record(event["delta"]);
      if (type === "text_delta") this.grow("text", text(said));
      else if (type === "thinking_delta") this.grow("thinking", text(thinking));
    }
  }

  /** The block is in the log now, or never will be. */
  clear(): void {
    this.set(null);
  }

  private grow(kind: "text" | "thinking", more: string): void {
    const before = this.block?.kind === kind ? this.block.text : "";
    this.set({ kind, text: before + more });
  }

  /** Partial text comes many times a frame. */
  private set(block: LiveBlock | null): void {
    this.block = block;
    if (this.scheduled) return;
    this.scheduled = true;
    const tell = (): void => {
      this.scheduled = false;
      this.shown.value = this.block;
    };
    if (document.hidden) setTimeout(tell, 200);
    else requestAnimationFrame(tell);
  }
}
