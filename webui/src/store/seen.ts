import { signal } from "@preact/signals";
import { keep, recall } from "./memory";
import type { ConversationState } from "./projects";

const NAME = "seen";

type Offsets = Readonly<Record<string, number>>;

/** Up to which entry each conversation was seen in this browser; it survives a reload. */
export class Seen {
  private readonly offsets = signal<Offsets>(stored());

  constructor() {
    addEventListener("storage", (event) => {
      if (event.key === NAME) this.offsets.value = stored();
    });
  }

  /** Whether it has entries that were not seen. */
  isUnread({ id, offset }: ConversationState): boolean {
    return offset > (this.offsets.value[id] ?? offset);
  }

  /** All of it was seen. */
  mark({ id, offset }: ConversationState): void {
    if (this.offsets.peek()[id] !== offset) this.put({ ...this.offsets.peek(), [id]: offset });
  }

  /** Begins with what each has when it first comes, and forgets those that are gone. */
  follow(conversations: readonly ConversationState[]): void {
    const before = this.offsets.peek();
    // A log that was put back to an older state has fewer entries.
    const now = conversations.map(({ id, offset }) => [id, Math.min(before[id] ?? offset, offset)] as const);
    if (now.length !== Object.keys(before).length || now.some(([id, offset]) => before[id] !== offset)) {
      this.put(Object.fromEntries(now));
    }
  }

  private put(offsets: Offsets): void {
    this.offsets.value = offsets;
    keep(NAME, offsets);
  }
}

function stored(): Offsets {
  const kept = Object.entries(recall(NAME) ?? {}).filter(([, offset]) => typeof offset === "number");
  return Object.fromEntries(kept);
}
