import { Geometry, type Range } from "./geometry";

/** How far beyond what is seen items are there already. */
const OVERSCAN = 800;
/** This near to the end counts as at the end. */
const NEAR = 32;

/**
 * Keeps what is seen in its place while the list above and below it changes: at the end it stays at the end,
 * elsewhere the first item that is seen stays where it is.
 */
export class Scroll {
  readonly geometry: Geometry;
  /** Whether the end is followed. */
  following = true;
  /** Whether the list goes on beyond its last item, with what is not in memory; such an end is not followed. */
  goesOn = false;
  private element: HTMLElement | null = null;
  private anchor: { readonly key: string; readonly shift: number } | null = null;
  /** The position at the last check or change, to distinguish a user's scrolling from its own. */
  private last = 0;
  /** How large the view and the list were when this looked last. */
  private size = { view: 0, list: 0 };

  constructor(guess: number) {
    this.geometry = new Geometry(guess);
  }

  attach(element: HTMLElement | null): void {
    this.element = element;
  }

  /** The items that have to be there now. */
  range(): Range {
    const height = this.element?.clientHeight ?? 800;
    if (this.following) return this.geometry.between(this.geometry.total - height - OVERSCAN, this.geometry.total);
    const top = this.element?.scrollTop ?? 0;
    return this.geometry.between(top - OVERSCAN, top + height + OVERSCAN);
  }

  /** The person, or this, has scrolled. */
  scrolled(): void {
    // A smaller view or list moves the content, and the event follows later: the list keeps following.
    if (this.following && this.isResized) {
      this.settle();
      return;
    }
    const moved = this.above - this.last;
    if (Math.abs(moved) < 1) return;
    this.last = this.above;
    // A small move upwards ends following; a clamp at the lower end is not scrolling.
    if (moved < 0 && this.below > 2) this.following = false;
    else if (moved > 0 && this.below < NEAR && !this.goesOn) this.following = true;
    this.hold();
  }

  /** What lies around has changed its size. */
  settle(): void {
    const element = this.element;
    if (element === null) return;
    this.size = { view: element.clientHeight, list: element.scrollHeight };
    const wanted = this.following ? element.scrollHeight - element.clientHeight : this.held();
    if (wanted === null) return;
    if (Math.abs(element.scrollTop - wanted) >= 1) element.scrollTop = wanted;
    else if (!this.following) return;
    this.last = element.scrollTop;
  }

  toEnd(): void {
    this.following = true;
    this.anchor = null;
    this.settle();
  }

  /** Pixels between what is seen and the first item. */
  get above(): number {
    return this.element?.scrollTop ?? 0;
  }

  /** Pixels between what is seen and the end. */
  get below(): number {
    const element = this.element;
    return element === null ? 0 : element.scrollHeight - element.clientHeight - element.scrollTop;
  }

  private get isResized(): boolean {
    const element = this.element;
    return element !== null && (element.clientHeight !== this.size.view || element.scrollHeight !== this.size.list);
  }

  private hold(): void {
    const top = this.element?.scrollTop ?? 0;
    const index = this.geometry.indexAt(top);
    const key = this.geometry.keyOf(index);
    this.anchor = key === undefined ? null : { key, shift: top - this.geometry.topOf(index) };
  }

  private held(): number | null {
    if (this.anchor === null) return null;
    const index = this.geometry.indexOf(this.anchor.key);
    return index < 0 ? null : this.geometry.topOf(index) + this.anchor.shift;
  }
}
