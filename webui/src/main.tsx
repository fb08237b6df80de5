import { render } from "preact";
import "./view/style/base.css";
import "./view/style/control.css";
import { startRouter } from "./router";
import { Store, StoreProvider } from "./store/store";
import { App } from "./view/shell/app";
import { guardComposition } from "./view/shell/shortcut";
import { followTheme } from "./view/shell/theme";
import { followViewport } from "./view/shell/viewport";
import { startWorker } from "./view/shell/worker";

function openWebSocket(path: string): WebSocket {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  return new WebSocket(`${scheme}://${location.host}${path}`);
}

const root = document.getElementById("app");
if (root === null) throw new Error("The page has no #app.");
const store = new Store(openWebSocket);
followTheme(store.preferences);
followViewport();
startRouter();
guardComposition();
render(
  <StoreProvider value={store}>
    <App />
  </StoreProvider>,
  root,
);
store.setAway(document.hidden);
void store.enter();
void startWorker();
addEventListener("offline", () => store.link.offline());
addEventListener("online", () => store.link.retry());
document.addEventListener("visibilitychange", () => {
  store.setAway(document.hidden);
  if (!document.hidden) store.link.retry();
});
