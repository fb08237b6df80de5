import { computed, signal, type ReadonlySignal } from "@preact/signals";
import type { ApprovalRequestedData, WaitingApproval } from "../wire/generated";
import type { Loose } from "../conversation/reading";
import { conversationOf, type Frame } from "../wire/frame";
import { isDeletedBy } from "./projects";

/** A tool request that is open, or was answered just now. */
export interface Approval {
  readonly id: string;
  readonly conversationId: string;
  readonly request: ApprovalRequestedData;
  readonly outcome?: Outcome;
}

/** How a request ended. `by` is null when it was withdrawn without an answer. */
export interface Outcome {
  readonly behavior: "allow" | "deny" | "withdrawn";
  readonly by: string | null;
  readonly message?: string | null | undefined;
  /** What the tool is called with instead of what the agent asked for, when that was changed. */
  readonly input?: Loose | undefined;
}

/** How long the answer of another device is shown, in milliseconds. */
const SHOWN_MS = 3500;

/** The tool requests of all conversations, oldest first. */
export class Approvals {
  private readonly all = signal<ReadonlyMap<string, Approval>>(new Map());
  /** Those that were answered here, whose answer need not be shown. */
  private readonly own = new Set<string>();

  /** What waits, and what was just answered elsewhere. */
  readonly list: ReadonlySignal<readonly Approval[]> = computed(() => [...this.all.value.values()]);
  readonly waiting: ReadonlySignal<readonly Approval[]> = computed(() =>
    this.list.value.filter(({ outcome }) => outcome === undefined),
  );

  get(id: string): Approval | undefined {
    return this.all.value.get(id);
  }

  /** Takes over what waits in all conversations. */
  replace(approvals: readonly WaitingApproval[]): void {
    this.all.value = new Map(
      approvals.map(({ project_id, conversation_id, approval }) => [
        approval.approval_id,
        made(conversation_id ?? project_id, approval),
      ]),
    );
  }

  /** Takes over what waits in one conversation. */
  replaceOf(conversationId: string, requests: readonly ApprovalRequestedData[]): void {
    const others = this.list.value.filter((approval) => approval.conversationId !== conversationId);
    const own = requests.map((request) => made(conversationId, request));
    this.all.value = new Map([...others, ...own].map((approval) => [approval.id, approval]));
  }

  accept(frame: Frame): void {
    const conversationId = conversationOf(frame);
    if (conversationId === undefined) return;
    const rest = this.list.value.filter((approval) => !isDeletedBy(frame, approval.conversationId));
    if (rest.length < this.all.value.size) this.all.value = new Map(rest.map((approval) => [approval.id, approval]));
    if (frame.type === "approval_requested") {
      this.put(made(conversationId, frame.data));
    } else if (frame.type === "approval_resolved") {
      const { approval_id, behavior, by, message } = frame.data;
      this.end(approval_id, { behavior, by, message });
    } else if (frame.type === "approval_cancelled") {
      this.end(frame.data.approval_id, { behavior: "withdrawn", by: null, message: frame.data.reason });
    }
  }

  /** It is being answered here; `undo` when that failed. */
  answering(id: string, { undo = false } = {}): void {
    if (undo) this.own.delete(id);
    else this.own.add(id);
  }

  /** It was answered, however it came to be known. */
  end(id: string, outcome: Outcome): void {
    const approval = this.all.value.get(id);
    if (approval === undefined || approval.outcome !== undefined) return;
    if (this.own.delete(id)) {
      this.remove(id);
      return;
    }
    this.put({ ...approval, outcome });
    setTimeout(() => this.remove(id), SHOWN_MS);
  }

  private put(approval: Approval): void {
    this.all.value = new Map(this.all.value).set(approval.id, approval);
  }

  private remove(id: string): void {
    const rest = new Map(this.all.value);
    if (rest.delete(id)) this.all.value = rest;
  }
}

function made(conversationId: string, request: ApprovalRequestedData): Approval {
  return { id: request.approval_id, conversationId, request };
}
