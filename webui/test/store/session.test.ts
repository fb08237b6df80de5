import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Sessions } from "../../src/store/session";

beforeEach(() => vi.stubGlobal("isSecureContext", false)); // no key: the cookie alone
afterEach(() => vi.unstubAllGlobals());

test("a refusal that arrives after the browser was paired does not sign it out", async () => {
  let refuse: (answer: Response) => void = () => undefined;
  const late = new Promise<Response>((resolve) => (refuse = resolve));
  const paired = { device: { id: "1", name: "phone" } };
  const fetching = vi.fn((path: string) => (path === "/api/session" ? late : Promise.resolve(Response.json(paired))));
  vi.stubGlobal("fetch", fetching);
  const sessions = new Sessions();
  const refreshed = sessions.refresh();
  await vi.waitFor(() => expect(fetching).toHaveBeenCalled(), { timeout: 60_000 });
  await sessions.pair("code", "phone");
  refuse(Response.json({ data: {} }, { status: 401 }));
  await refreshed;
  expect(sessions.current.value).toEqual({ kind: "paired", device: paired.device });
});

test("a browser that the server does not know is not paired", async () => {
  vi.stubGlobal("fetch", () => Promise.resolve(Response.json({ data: {} }, { status: 401 })));
  const sessions = new Sessions();
  await sessions.refresh();
  expect(sessions.current.value).toEqual({ kind: "unpaired", reason: "" });
});
