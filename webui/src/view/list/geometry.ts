/** Where each item of a long list is, when only some of them were ever measured. Pure. */

/** Half-open: items from `start` up to, and without, `end`. */
export interface Range {
  readonly start: number;
  readonly end: number;
}

export class Geometry {
  private readonly measured = new Map<string, number>();
  private keys: readonly string[] = [];
  /** Where each item begins, and at the end where the last one ends. */
  private tops = new Float64Array(1);
  private sum = 0;
  private stale = false;
  private readonly guess: number;

  /** @param guess the height of an item before any was measured. */
  constructor(guess: number) {
    this.guess = guess;
  }

  get count(): number {
    return this.keys.length;
  }

  get total(): number {
    return this.topOf(this.keys.length);
  }

  /** What is in the list now. Heights of items that left it are forgotten. */
  setKeys(keys: readonly string[]): void {
    this.keys = keys;
    this.stale = true;
    if (this.measured.size <= keys.length * 2 + 100) return;
    const present = new Set(keys);
    for (const [key, height] of this.measured) {
      if (present.has(key)) continue;
      this.measured.delete(key);
      this.sum -= height;
    }
  }

  /** @returns whether that is news. */
  measure(key: string, height: number): boolean {
    const before = this.measured.get(key);
    if (before !== undefined && Math.abs(before - height) < 0.5) return false;
    this.sum += height - (before ?? 0);
    this.measured.set(key, height);
    this.stale = true;
    return true;
  }

  keyOf(index: number): string | undefined {
    return this.keys[index];
  }

  indexOf(key: string): number {
    return this.keys.indexOf(key);
  }

  /** Where an item begins; the end of the list for the index behind the last one. */
  topOf(index: number): number {
    this.refresh();
    return this.tops[Math.min(index, this.keys.length)] ?? 0;
  }

  /** The item at a height; the nearest one outside of the list. */
  indexAt(y: number): number {
    this.refresh();
    let low = 0;
    let high = Math.max(0, this.keys.length - 1);
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((this.tops[middle] ?? 0) <= y) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** The items that touch what lies between two heights. */
  between(top: number, bottom: number): Range {
    if (this.keys.length === 0) return { start: 0, end: 0 };
    return { start: this.indexAt(top), end: this.indexAt(bottom) + 1 };
  }

  private refresh(): void {
    if (!this.stale) return;
    this.stale = false;
    const average = this.measured.size === 0 ? this.guess : this.sum / this.measured.size;
    if (this.tops.length < this.keys.length + 1) this.tops = new Float64Array((this.keys.length + 1) * 2);
    let top = 0;
    for (const [index, key] of this.keys.entries()) {
      this.tops[index] = top;
      top += this.measured.get(key) ?? average;
    }
    this.tops[this.keys.length] = top;
  }
}
