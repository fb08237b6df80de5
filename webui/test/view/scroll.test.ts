import { beforeEach, expect, test } from "vitest";
import { Scroll } from "../../src/view/list/scroll";

/** A box with a view of 500 pixels on whatever the list is high. */
class Box {
  clientHeight = 500;
  private top = 0;
  private readonly scroll: Scroll;

  constructor(scroll: Scroll) {
    this.scroll = scroll;
  }

  get scrollHeight(): number {
    return this.scroll.geometry.total;
  }

  get scrollTop(): number {
    return this.top;
  }

  set scrollTop(top: number) {
    this.top = Math.max(0, Math.min(top, this.scrollHeight - this.clientHeight));
  }
}

let scroll: Scroll;
let box: Box;
let items: string[];

beforeEach(() => {
  scroll = new Scroll(100);
  box = new Box(scroll);
  scroll.attach(box as unknown as HTMLElement);
  items = Array.from({ length: 100 }, (_, at) => `k${at}`);
  scroll.geometry.setKeys(items);
  scroll.settle();
});

function drag(by: number): void {
  box.scrollTop += by;
  scroll.scrolled();
}

test("it begins at the end, and follows it", () => {
  expect(box.scrollTop).toBe(9500);
  items.push("new");
  scroll.geometry.setKeys(items);
  scroll.settle();
  expect([box.scrollTop, scroll.following]).toEqual([9600, true]);
});

test("what moves because the view and the list change their sizes is no scrolling", () => {
  items.pop();
  scroll.geometry.setKeys(items);
  box.scrollTop = 9500; // as a browser does, which has no room below
  expect(box.scrollTop).toBe(9400);
  box.clientHeight = 300;
  scroll.scrolled();
  expect([box.scrollTop, scroll.following]).toEqual([9600, true]);
  items.pop();
  scroll.geometry.setKeys(items);
  box.scrollTop = 9600;
  scroll.settle();
  items.push("one", "two");
  scroll.geometry.setKeys(items);
  scroll.settle();
  scroll.scrolled();
  expect([box.scrollTop, scroll.following]).toEqual([9700, true]);
  drag(-20);
  expect(scroll.following).toBe(false);
});

test("an end behind which more is to be read is not followed, so that nothing of it is passed over", () => {
  drag(-5000);
  scroll.goesOn = true;
  drag(10_000);
  expect([box.scrollTop, scroll.following]).toEqual([9500, false]);
  items.push(...Array.from({ length: 50 }, (_, at) => `later${at}`));
  scroll.geometry.setKeys(items);
  scroll.settle();
  expect(box.scrollTop).toBe(9500);
  scroll.goesOn = false;
  drag(10_000);
  expect(scroll.following).toBe(true);
});

test("a little upwards is enough to be let go", () => {
  drag(-10);
  expect(scroll.following).toBe(false);
  items.push("new");
  scroll.geometry.setKeys(items);
  scroll.settle();
  expect(box.scrollTop).toBe(9490);
});

test("scrolling down to the end follows it again", () => {
  drag(-1000);
  drag(990);
  expect(scroll.following).toBe(true);
});

test("what is seen stays when older items come above it", () => {
  drag(-4000);
  const before = box.scrollTop;
  items.unshift(...Array.from({ length: 50 }, (_, at) => `old${at}`));
  scroll.geometry.setKeys(items);
  scroll.settle();
  expect(box.scrollTop).toBe(before + 5000);
});

test("what is seen stays when something above it turns out higher", () => {
  drag(-4000);
  const before = box.scrollTop;
  for (const key of items) scroll.geometry.measure(key, 100);
  scroll.geometry.measure("k3", 400);
  scroll.settle();
  expect(box.scrollTop).toBe(before + 300);
});

test("what is seen stays when the newest items are let go", () => {
  drag(-4000);
  const before = box.scrollTop;
  items.length = 80;
  scroll.geometry.setKeys(items);
  scroll.settle();
  expect(box.scrollTop).toBe(before);
});

test("content that shrinks at the end is no scrolling", () => {
  items.length = 90;
  scroll.geometry.setKeys(items);
  box.scrollTop = 9500; // cut off by the browser
  scroll.scrolled();
  expect(scroll.following).toBe(true);
});

test("only what is near the view has to be there", () => {
  const following = scroll.range();
  expect(following.end).toBe(100);
  expect(following.start).toBeGreaterThan(80);
  drag(-5000);
  const { start, end } = scroll.range();
  expect(start).toBeGreaterThan(30);
  expect(end).toBeLessThan(60);
});

test("jumping to the end follows it", () => {
  drag(-5000);
  scroll.toEnd();
  expect([box.scrollTop, scroll.following]).toEqual([9500, true]);
});
