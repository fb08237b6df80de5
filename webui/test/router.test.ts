import { beforeEach, expect, test, vi } from "vitest";

interface Entry {
  state: unknown;
  pathname: string;
}

/** The browser's history, whose steps back are carried out when the test says so. */
class History {
  readonly entries: Entry[] = [{ state: null, pathname: "/" }];
  private readonly listeners: (() => void)[] = [];

  get now(): Entry {
    return this.entries.at(-1) ?? { state: null, pathname: "" };
  }

  get state(): unknown {
    return this.now.state;
  }

  pushState(state: unknown, _: string, to = this.now.pathname): void {
    this.entries.push({ state, pathname: to });
  }

  replaceState(state: unknown, _: string, to = this.now.pathname): void {
    this.entries.splice(-1, 1, { state, pathname: to });
  }

  back(): void {
    return;
  }

  listen(listener: () => void): void {
    this.listeners.push(listener);
  }

  carryOutBack(): void {
    this.entries.pop();
    for (const listener of this.listeners) listener();
  }
}

let history: History;

beforeEach(() => {
  history = new History();
  vi.resetModules();
  vi.stubGlobal("history", history);
  vi.stubGlobal("location", {
    get pathname(): string {
      return history.now.pathname;
    },
  });
  vi.stubGlobal("document", { addEventListener: vi.fn() });
  vi.stubGlobal("addEventListener", (_: string, listener: () => void) => history.listen(listener));
});

test("a page that is shown while a sheet's entry is left stays", async () => {
  const { leaveSheetEntry, navigate, path, startRouter } = await import("../src/router");
  startRouter();
  navigate("/p/one");
  history.pushState({ sheet: true }, "");
  leaveSheetEntry();
  navigate("/", { replace: true });
  history.carryOutBack();
  expect(path.value).toBe("/");
  expect(history.entries.map(({ pathname }) => pathname)).toEqual(["/", "/"]);
});

test("a sheet that is opened while another one's entry is left has an entry of its own", async () => {
  const { leaveSheetEntry, navigate, startRouter, whenSettled } = await import("../src/router");
  startRouter();
  navigate("/p/two");
  history.pushState({ sheet: true }, "");
  leaveSheetEntry();
  const open = vi.fn(() => history.pushState({ sheet: true }, ""));
  whenSettled(open);
  expect(open).not.toHaveBeenCalled();
  history.carryOutBack();
  expect(open).toHaveBeenCalledOnce();
  expect(history.entries.at(-1)).toEqual({ state: { sheet: true }, pathname: "/p/two" });
  expect(history.entries).toHaveLength(3);
});
