import { render } from "preact";
import "./view/style/base.css";
import "./view/style/control.css";
import { startRouter } from "./router";
import { Store, StoreProvider } from "./store/store";
import { App } from "./view/shell/app";

function openWebSocket(): WebSocket {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  return new WebSocket(`${scheme}://${location.host}/ws`);
}

const root = document.getElementById("app");
if (root === null) throw new Error("The page has no #app.");
const store = new Store(openWebSocket);
startRouter();
render(
  <StoreProvider value={store}>
    <App />
  </StoreProvider>,
  root,
);
void store.open();
