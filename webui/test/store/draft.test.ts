// @vitest-environment happy-dom
import { beforeEach, expect, test } from "vitest";
import { Drafts } from "../../src/store/draft";

beforeEach(() => localStorage.clear());

test("a draft survives that the page goes away", () => {
  const drafts = new Drafts();
  drafts.put("p", "half a thou");
  dispatchEvent(new Event("pagehide"));
  expect(new Drafts().textOf("p").value).toBe("half a thou");
  expect(new Drafts().textOf("q").value).toBe("");
});

test("an empty draft leaves nothing, a huge one is not kept", () => {
  const drafts = new Drafts();
  drafts.put("p", "x");
  dispatchEvent(new Event("pagehide"));
  drafts.put("p", "");
  drafts.put("q", "x".repeat(300_000));
  dispatchEvent(new Event("pagehide"));
  expect(localStorage.length).toBe(0);
  expect(drafts.textOf("q").value).toHaveLength(300_000);
});
