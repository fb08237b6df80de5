// @vitest-environment happy-dom
import { render } from "preact";
import { act } from "preact/test-utils";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Store, StoreProvider } from "../../src/store/store";
import { ApprovalDock } from "../../src/view/approval/dock";
import { Network, settle } from "../connection/network";
import { projectState } from "../state";

let network: Network;
let store: Store;
let root: HTMLElement;

/** A tool request that waits, as the server sends it. */
const waiting = (approval_id: string): object => ({
  project_id: "p",
  approval: { approval_id, tool_name: "Bash", input: { command: "date" }, suggestions: null },
});

beforeEach(async () => {
  network = new Network();
  store = new Store(network.open);
  store.link.start();
  network.wire.accept();
  root = document.createElement("div");
  document.body.append(root);
  await act(async () => {
    network.wire.reply("watch", { projects: [projectState()], approvals: [waiting("one")] });
    render(
      <StoreProvider value={store}>
        <ApprovalDock />
      </StoreProvider>,
      root,
    );
    await settle();
  });
});

afterEach(() => {
  render(null, root);
  root.remove();
  store.link.stop();
});

async function press(name: string): Promise<void> {
  const found = [...root.querySelectorAll("button")].find(
    (one) => (one.getAttribute("aria-label") ?? one.textContent.trim()) === name,
  );
  await act(async () => {
    found?.click();
    await settle();
  });
}

const reason = (): HTMLInputElement | null => root.querySelector("input");

test("what was typed into a request survives a fold, a reconnect and another request", async () => {
  await press("Deny");
  await act(async () => {
    const field = reason();
    if (field !== null) field.value = "not before the tests pass";
    field?.dispatchEvent(new Event("input", { bubbles: true }));
    field?.dispatchEvent(new Event("focusin", { bubbles: true }));
    await settle();
  });
  await press("Fold");
  expect(reason()?.closest("[hidden]")).not.toBeNull();
  await press("Unfold");
  expect(reason()?.value).toBe("not before the tests pass");
  network.wire.drop();
  store.link.retry();
  await act(async () => {
    network.wire.accept();
    network.wire.reply("watch", { projects: [projectState()], approvals: [waiting("one"), waiting("two")] });
    await settle();
  });
  expect(reason()?.value).toBe("not before the tests pass");
  expect(reason()?.closest("[hidden]")).toBeNull();
});
