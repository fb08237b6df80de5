import { computed, signal, type ReadonlySignal } from "@preact/signals";
import type { Outcome } from "../store/approvals";
import { readEntry, type Entry, type RawEntry } from "./entry";
import type { Item, ToolResult } from "./item";

/** What is held of a log at most; the rest is read again when it is scrolled to. */
export interface Bounds {
  readonly entries: number;
  readonly characters: number;
}

const BOUNDS: Bounds = { entries: 2500, characters: 16_000_000 };

/** The state of the approval of a tool call. */
export interface ToolApproval {
  readonly approvalId: string;
  readonly outcome: Outcome | undefined;
}

/**
 * The part of a log that is in memory: entries without a gap, and what is shown of them. It grows at both
 * ends and forgets at the other one.
 */
export class Timeline {
  private entries: Entry[] = [];
  private shown: Item[] = [];
  private weight = 0;
  private readonly results = new Map<string, ToolResult>();
  private readonly requests = new Map<string, string>();
  private readonly outcomes = new Map<string, Outcome>();
  private readonly changes = signal(0);
  private readonly bounds: Bounds;
  /** The newest entry of the log, which may be newer than the newest one here. */
  private head = 0;
  /** The oldest entry that is stored. */
  private first = 1;
  private scheduled = false;

  /** Whether the log has nothing to show. */
  readonly isEmpty: ReadonlySignal<boolean> = computed(
    () => this.changes.value === 0 || (this.shown.length === 0 && !this.hasOlder),
  );

  constructor(bounds: Bounds = BOUNDS) {
    this.bounds = bounds;
  }

  /** Changes whenever anything here has; reading it subscribes. */
  get version(): ReadonlySignal<number> {
    return this.changes;
  }

  get items(): readonly Item[] {
    return this.shown;
  }

  get firstOffset(): number {
    return this.entries[0]?.offset ?? this.head + 1;
  }

  get lastOffset(): number {
    return this.entries.at(-1)?.offset ?? this.head;
  }

  /** Whether older entries are stored than those in memory. */
  get hasOlder(): boolean {
    return this.firstOffset > this.first;
  }

  /** Whether newer entries are stored than those in memory. */
  get hasNewer(): boolean {
    return this.lastOffset < this.head;
  }

  /** The offset of the entry behind another one in memory. */
  offsetAfter(offset: number): number | undefined {
    return this.entries.find((entry) => entry.offset > offset)?.offset;
  }

  resultOf(toolUseId: string): ToolResult | undefined {
    return this.results.get(toolUseId);
  }

  approvalOf(toolUseId: string): ToolApproval | undefined {
    const approvalId = this.requests.get(toolUseId);
    return approvalId === undefined ? undefined : { approvalId, outcome: this.outcomes.get(approvalId) };
  }

  outcomeOf(approvalId: string): Outcome | undefined {
    return this.outcomes.get(approvalId);
  }

  /** Begins again with a page of the log. */
  reset(page: readonly RawEntry[], first: number, head: number): void {
    this.entries = [];
    this.shown = [];
    this.weight = 0;
    this.results.clear();
    this.requests.clear();
    this.outcomes.clear();
    this.first = first;
    this.head = head;
    for (const raw of page) this.push(readEntry(raw));
    this.changed();
  }

  /** Takes the newest entry of the log, which is only counted where those before it are not in memory. */
  append(raw: RawEntry): Entry {
    const entry = readEntry(raw);
    const follows = !this.hasNewer;
    this.head = Math.max(this.head, raw.offset);
    if (follows) {
      this.push(entry);
      while (this.isFull() && this.entries.length > 1) this.forget(this.entries.shift());
    }
    this.schedule();
    return entry;
  }

  /** Learns of newer entries without taking them; they are read when they are scrolled to. */
  advance(first: number, head: number): void {
    this.first = first;
    this.head = Math.max(this.head, head);
    this.changed();
  }

  /** Takes an entry again, the whole in place of its beginning. */
  replace(raw: RawEntry): void {
    const index = this.entries.findIndex(({ offset }) => offset === raw.offset);
    const before = this.entries[index];
    if (before === undefined) return;
    const entry = readEntry(raw);
    this.weight -= before.weight;
    this.entries[index] = entry;
    this.note(entry);
    this.shown = this.entries.flatMap(({ items }) => items);
    this.changed();
  }

  /** Adds entries that directly precede those in memory. */
  prepend(page: readonly RawEntry[], first: number): void {
    this.first = first;
    const older = page.filter(({ offset }) => offset < this.firstOffset).map(readEntry);
    for (const entry of older) this.note(entry);
    this.entries = [...older, ...this.entries];
    this.shown = [...older.flatMap(({ items }) => items), ...this.shown];
    while (this.isFull() && this.entries.length > older.length) this.forget(this.entries.pop(), { last: true });
    this.changed();
  }

  /** Adds entries that directly follow those in memory. */
  extend(page: readonly RawEntry[]): void {
    const newer = page.filter(({ offset }) => offset > this.lastOffset).map(readEntry);
    for (const entry of newer) this.push(entry);
    while (this.isFull() && this.entries.length > newer.length) this.forget(this.entries.shift());
    this.changed();
  }

  private isFull(): boolean {
    return this.entries.length > this.bounds.entries || this.weight > this.bounds.characters;
  }

  private push(entry: Entry): void {
    this.note(entry);
    this.entries.push(entry);
    this.shown.push(...entry.items);
  }

  private note({ weight, results, requests, outcomes }: Entry): void {
    this.weight += weight;
    for (const [id, result] of results) this.results.set(id, result);
    for (const [id, approvalId] of requests) this.requests.set(id, approvalId);
    for (const [id, outcome] of outcomes) this.outcomes.set(id, outcome);
  }

  private forget(entry: Entry | undefined, { last = false } = {}): void {
    if (entry === undefined) return;
    this.weight -= entry.weight;
    for (const [id] of entry.results) this.results.delete(id);
    for (const [id] of entry.requests) this.requests.delete(id);
    for (const [id] of entry.outcomes) this.outcomes.delete(id);
    if (last) this.shown.length -= entry.items.length;
    else this.shown.splice(0, entry.items.length);
  }

  /** Entries come in bursts; what is shown follows once a frame. */
  private schedule(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    const tell = (): void => {
      this.scheduled = false;
      this.changed();
    };
    if (document.hidden) setTimeout(tell, 200);
    else requestAnimationFrame(tell);
  }

  private changed(): void {
    this.changes.value += 1;
  }
}
