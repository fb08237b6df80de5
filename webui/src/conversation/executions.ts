import { signal, type ReadonlySignal } from "@preact/signals";
import type { Link } from "../connection/link";
import type { ExecutionData, ExecutionListData } from "../wire/generated";

const PAGE = 50;

/** What the executions of a conversation have used, as far as it was asked for. */
export class Executions {
  private readonly link: Link;
  private readonly conversationId: string;
  private readonly used = signal<ReadonlyMap<string, ExecutionData>>(new Map());
  private hasMore = true;
  private isAsked = false;

  constructor(link: Link, conversationId: string) {
    this.link = link;
    this.conversationId = conversationId;
  }

  /** By their id, the newest first. */
  get known(): ReadonlySignal<ReadonlyMap<string, ExecutionData>> {
    return this.used;
  }

  /** Reads what an execution used that is shown and not known yet, a page further back each time. */
  async load(): Promise<void> {
    if (this.isAsked || !this.hasMore) return;
    this.isAsked = true;
    const before = [...this.used.value.values()].at(-1)?.execution_id ?? null;
    try {
      const page = await this.page({ limit: PAGE, before });
      this.hasMore = page.has_more;
      this.used.value = new Map([...this.used.value, ...page.executions.map(byId)]);
    } catch {
      return; // only the usage is missing then
    } finally {
      this.isAsked = false;
    }
  }

  /** Reads the newest ones, of which one has ended. */
  async refresh(): Promise<void> {
    try {
      const page = await this.page({ limit: 5 });
      const newest = page.executions.map(byId);
      const others = [...this.used.value].filter(([id]) => newest.every(([known]) => known !== id));
      if (this.used.value.size === 0) this.hasMore = page.has_more;
      this.used.value = new Map([...newest, ...others]);
    } catch {
      return; // the same
    }
  }

  /** The id of the one that runs; null when none does, or when that cannot be found out. */
  async running(): Promise<string | null> {
    try {
      const { executions } = await this.page({ limit: 5 });
      return executions.find(({ status }) => status === "running")?.execution_id ?? null;
    } catch {
      return null;
    }
  }

  private page(data: { limit: number; before?: string | null }): Promise<ExecutionListData> {
    return this.link.request("execution_list", data, { conversationId: this.conversationId });
  }
}

function byId(execution: ExecutionData): [string, ExecutionData] {
  return [execution.execution_id, execution];
}
