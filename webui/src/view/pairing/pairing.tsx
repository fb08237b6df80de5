import type { VNode } from "preact";
import { useEffect, useState } from "preact/hooks";
import { whyNoKey } from "../../connection/key";
import { navigate, path } from "../../router";
import { text } from "../../conversation/reading";
import { keep, recall } from "../../store/memory";
import { useStore } from "../../store/store";
import { Problem, useAttempt } from "../control/attempt";
import "./pairing.css";

/** How a browser that is not known yet comes in. The code may have come in the fragment, which no server sees. */
export function Pairing(): VNode {
  const { sessions } = useStore();
  const session = sessions.current.value;
  const reason = session.kind === "unpaired" ? session.reason : "";
  const [code, setCode] = useState(takeCode);
  const [name, setName] = useState(deviceName);
  useEffect(() => {
    document.title = "Pair this browser · Pocket Agent";
  }, []);
  const { isBusy, problem, start } = useAttempt(async () => {
    try {
      await sessions.pair(code.trim(), name.trim());
    } finally {
      keep(KEPT, null, "tab");
    }
    if (path.peek() === "/pair") navigate("/", { replace: true });
  });
  return (
    <main class="pairing">
      <form
        class="card pairing-card"
        onSubmit={(event) => {
          event.preventDefault();
          start();
        }}
      >
        <img src="/icon.svg" alt="" width={56} height={56} />
        <h1>Pair this browser</h1>
        {reason !== "" && <p class="problem">{reason}</p>}
        <p>
          Only devices that the server knows can connect. On one of them, open <em>Devices</em> and choose{" "}
          <em>Pair a device</em>, or run <code>pocket-agent pair</code> on the server&rsquo;s machine: open the address
          that is shown, or type its code here.
        </p>
        <label class="field">
          <span>Code</span>
          <input
            class="input pairing-code"
            required
            maxLength={200}
            autocapitalize="characters"
            autocomplete="off"
            spellcheck={false}
            value={code}
            onInput={(event) => setCode(event.currentTarget.value)}
          />
        </label>
        <label class="field">
          <span>What to call this device</span>
          <input
            class="input"
            required
            maxLength={60}
            autocomplete="off"
            value={name}
            onInput={(event) => setName(event.currentTarget.value)}
          />
        </label>
        {whyNoKey() !== "" && (
          <p class="hint" role="note">
            {whyNoKey()} So a program that gets this browser&rsquo;s cookie, for example on another port of the same
            host, can connect as this device. Open the page by https, or as localhost, to avoid that.
          </p>
        )}
        <Problem text={problem} />
        <button class="button primary" type="submit" disabled={isBusy || code.trim() === "" || name.trim() === ""}>
          {isBusy ? "Pairing…" : "Pair"}
        </button>
      </form>
    </main>
  );
}

/** Under which name this tab keeps the code until it was tried, so that a reload does not lose it. */
const KEPT = "pairing code";

/** The code of the address, which is taken out of it at once: it must not stay in the history. */
function takeCode(): string {
  const code = decodeURIComponent(location.hash.slice(1));
  if (code === "") return text(recall(KEPT, "tab"));
  history.replaceState(null, "", location.pathname);
  keep(KEPT, code, "tab");
  return code;
}

/** A name to begin with, out of what the browser says of itself. */
function deviceName(): string {
  const agent = navigator.userAgent;
  const system = SYSTEMS.find(([pattern]) => pattern.test(agent))?.[1] ?? "browser";
  const browser = BROWSERS.find(([pattern]) => pattern.test(agent))?.[1];
  return browser === undefined ? system : `${browser} on ${system}`;
}

const SYSTEMS: readonly (readonly [RegExp, string])[] = [
  [/iPhone/, "iPhone"],
  [/iPad/, "iPad"],
  [/Android/, "Android"],
  [/Mac OS X/, "Mac"],
  [/Windows/, "Windows"],
  [/CrOS/, "Chromebook"],
  [/Linux/, "Linux"],
];
const BROWSERS: readonly (readonly [RegExp, string])[] = [
  [/Firefox|FxiOS/, "Firefox"],
  [/Edg/, "Edge"],
  [/Chrome|CriOS/, "Chrome"],
  [/Safari/, "Safari"],
];
