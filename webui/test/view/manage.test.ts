// @vitest-environment happy-dom
import { afterEach, beforeEach, expect, test } from "vitest";
import { navigate, path, startRouter } from "../../src/router";
import { Store } from "../../src/store/store";
import { archive } from "../../src/view/conversation/manage";
import { Network, settle } from "../connection/network";
import { projectState } from "../state";

let network: Network;
let store: Store;

beforeEach(() => {
  startRouter();
  dispatchEvent(new PopStateEvent("popstate")); // a sheet of another test file may still be closing
  network = new Network();
  store = new Store(network.open);
  store.link.start();
  network.wire.accept();
});

afterEach(() => store.link.stop());

test.each([
  ["/p/p.side", "/p/p"],
  ["/p/other", "/p/other"],
])("the end of an archival leads from %s to %s", async (before, after) => {
  navigate("/p/p.side");
  const done = archive(store, store.projects.put(projectState({ conversation_id: "p.side" })), true);
  navigate(before);
  await settle();
  network.wire.reply("conversation_archive", projectState({ conversation_id: "p.side", archived: true }));
  await done;
  expect(path.value).toBe(after);
});
