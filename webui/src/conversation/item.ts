/** The items of a conversation, one kind for each component. Derived from entries; pure values. */
import type { ApprovalRequestedData } from "../wire/generated";

export interface Place {
  /** Unique and stable: the entry's offset and the item's place in it. */
  readonly key: string;
  readonly offset: number;
  /** RFC 3339. */
  readonly at: string;
  /** Where only the beginning is here: the bytes of the whole entry. */
  readonly size?: number;
}

export interface PromptItem extends Place {
  readonly kind: "prompt";
  readonly text: string;
  readonly by: string;
  readonly executionId: string;
  /** Whether it was written into a running turn, which then answers it. */
  readonly isSteering: boolean;
}

/** Text or thinking of the agent; `parent` is the tool call of a subagent that wrote it. */
export interface TextItem extends Place {
  readonly kind: "text" | "thinking";
  readonly text: string;
  readonly parent: string | null;
}

export interface ToolItem extends Place {
  readonly kind: "tool";
  readonly id: string;
  readonly name: string;
  readonly input: unknown;
  readonly parent: string | null;
}

/** The end of a turn, with what it took. */
export interface ResultItem extends Place {
  readonly kind: "result";
  readonly failed: boolean;
  readonly message: string;
  readonly seconds: number | null;
  readonly inputTokens: number | null;
  readonly outputTokens: number | null;
}

/** A tool request that belongs to no tool call that could be shown. */
export interface ApprovalItem extends Place {
  readonly kind: "approval";
  readonly request: ApprovalRequestedData;
}

export interface NoticeItem extends Place {
  readonly kind: "notice";
  readonly tone: "plain" | "divider" | "danger";
  readonly text: string;
  /** The paused execution that continues here. */
  readonly executionId?: string;
}

export type Item = PromptItem | TextItem | ToolItem | ResultItem | ApprovalItem | NoticeItem;

/** What a tool answered. */
export interface ToolResult {
  readonly text: string;
  readonly images: readonly Image[];
  readonly failed: boolean;
  /** The entry that holds it, and where only the beginning is here, the bytes of the whole. */
  readonly rest?: Rest;
}

/** An entry of which only the beginning is here. */
export interface Rest {
  readonly offset: number;
  readonly size: number;
}

export interface Image {
  readonly type: string;
  /** base64 */
  readonly data: string;
}
