import type { RawEntry } from "../conversation/entry";
import type { ProjectStateData } from "../wire/generated";
import { inStore } from "./memory";

/** The newest page of a conversation, as it was received; `at` is when it was stored, in RFC 3339. */
export interface OfflinePage {
  readonly at: string;
  readonly entries: readonly RawEntry[];
}

/** The list of conversations, and whether this device may do more than watch. */
export interface OfflineList {
  readonly at: string;
  readonly mayAct: boolean;
  readonly projects: readonly ProjectStateData[];
}

/** Bytes of a page as JSON, pages, and conversations that are stored at most. */
const MAX = { bytes: 131_072, pages: 12, projects: 200 };
const LIST = "offline";
const keyOf = (conversationId: string): string => `${LIST} ${conversationId}`;
/** The keys of all pages. */
const pages = (): IDBKeyRange => IDBKeyRange.bound(keyOf(""), keyOf("\uffff"));

/** What is shown while the server is out of reach. It is stored in this browser only if the user has chosen that. */
export class OfflinePages {
  private readonly mayStore: () => boolean;
  /** One change after the other, so that none is stored behind a `wipe`. */
  private last: Promise<unknown> = Promise.resolve();

  /** @param mayStore asked in the transaction of each change, since another tab may have switched it off. */
  constructor(mayStore: () => boolean) {
    this.mayStore = mayStore;
  }

  /** The stored page of a conversation; null when there is none that can be read. */
  async page(conversationId: string): Promise<OfflinePage | null> {
    const { at, entries } = (await this.read(keyOf(conversationId))) as Partial<OfflinePage>;
    let last = 0;
    const valid = (Array.isArray(entries) ? entries : []).filter(
      (one) => isEntry(one) && one.offset > last && (last = one.offset),
    );
    return typeof at === "string" && valid.length > 0 ? { at, entries: valid } : null;
  }

  /** The stored list of conversations, in which nothing runs or waits; null when there is none that can be read. */
  async list(): Promise<OfflineList | null> {
    const { at, mayAct, projects } = (await this.read(LIST)) as Partial<OfflineList>;
    if (typeof at !== "string" || !Array.isArray(projects)) return null;
    const still = { state: "IDLE", queue_depth: 0, pending_approvals: 0, queue_hold: null, tasks: [] } as const;
    return { at, mayAct: mayAct === true, projects: projects.filter(isProject).map((one) => ({ ...one, ...still })) };
  }

  /** Stores the newest of these entries, in place of the page that was stored; evicts the oldest pages. */
  putPage(conversationId: string, entries: readonly RawEntry[]): void {
    const at = new Date().toISOString();
    let bytes = 0;
    const first = entries.findLastIndex((entry) => {
      bytes += new Blob([JSON.stringify(entry)]).size;
      return bytes > MAX.bytes;
    });
    this.change((store) => {
      const put = store.put({ at, entries: entries.slice(first + 1) }, keyOf(conversationId));
      const count = store.count(pages());
      count.onsuccess = () => {
        if (count.result > MAX.pages) evictOldest(store);
      };
      return put;
    });
  }

  /** Stores the list of conversations, and deletes the pages of those that are not in it. */
  putList(projects: readonly ProjectStateData[], mayAct: boolean): void {
    const kept = new Set<IDBValidKey>(projects.map(({ id }) => keyOf(id)));
    this.change((store) => {
      const keys = store.getAllKeys(pages());
      keys.onsuccess = () => {
        for (const key of keys.result) if (!kept.has(key)) store.delete(key);
      };
      return store.put({ at: new Date().toISOString(), mayAct, projects: projects.slice(0, MAX.projects) }, LIST);
    });
  }

  /** Deletes all of it. */
  wipe(): Promise<unknown> {
    const all = (store: IDBObjectStore): IDBRequest => store.delete(IDBKeyRange.bound(LIST, keyOf("\uffff")));
    return (this.last = this.last.then(() => inStore("readwrite", all)).catch(ignored));
  }

  private async read(key: string): Promise<object> {
    if (!this.mayStore()) return {};
    const found = await inStore<unknown>("readonly", (store) => store.get(key)).catch(ignored);
    return typeof found === "object" && found !== null ? found : {};
  }

  /** Where the browser has no space left, what was stored before stays. */
  private change(put: (store: IDBObjectStore) => IDBRequest): void {
    const act = (store: IDBObjectStore): IDBRequest => (this.mayStore() ? put(store) : store.count());
    this.last = this.last.then(() => inStore("readwrite", act)).catch(ignored);
  }
}

function evictOldest(store: IDBObjectStore): void {
  const [keys, values] = [store.getAllKeys(pages()), store.getAll(pages()) as IDBRequest<OfflinePage[]>];
  values.onsuccess = () => {
    const times = values.result.map(({ at }) => at);
    const oldest = keys.result[times.indexOf([...times].sort()[0] ?? "")];
    if (oldest !== undefined) store.delete(oldest);
  };
}

function isEntry(value: unknown): value is RawEntry {
  const { offset, timestamp, type, cut } = (value ?? {}) as Partial<RawEntry>;
  return (
    typeof offset === "number" &&
    typeof timestamp === "string" &&
    typeof type === "string" &&
    (cut === undefined || Array.isArray(cut))
  );
}

function isProject(value: unknown): value is ProjectStateData {
  const { id, name, path, last_active } = (value ?? {}) as Partial<ProjectStateData>;
  return [id, name, path, last_active].every((one) => typeof one === "string");
}

function ignored(): void {
  return;
}
