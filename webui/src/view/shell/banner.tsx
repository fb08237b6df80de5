import type { VNode } from "preact";
import { useEffect, useState } from "preact/hooks";
import { RefreshCw, WifiOff } from "lucide";
import { useStore } from "../../store/store";
import { Icon } from "../icon";

/** A shorter interruption is not shown. */
const GRACE_MS = 700;

/** Says when what is shown is not live, or not the newest client. */
export function Banner(): VNode {
  return (
    <>
      <Offline />
      <NewVersion />
    </>
  );
}

/** The scripts and style sheets that a page names; each of them changes its name with its content. */
const ASSET = /\/assets\/[\w.-]+/g;

/** Offers to load the client again when the server, after a restart, has another one. */
function NewVersion(): VNode | null {
  const { link } = useStore();
  const [isOld, setOld] = useState(false);
  useEffect(
    () =>
      link.onOpen(() => {
        fetch("/", { cache: "no-store" })
          .then((answer) => answer.text())
          .then((page) => {
            const isLoaded = (name: string): boolean =>
              document.querySelector(`[src="${name}"], [href="${name}"]`) !== null;
            setOld(!(page.match(ASSET) ?? []).every(isLoaded));
          })
          .catch(() => undefined); // the next connection asks again
      }),
    [link],
  );
  if (!isOld) return null;
  return (
    <div class="connection" role="status">
      <Icon node={RefreshCw} size={17} />
      <span>The server has another version of this page.</span>
      <button class="button small" type="button" onClick={() => location.reload()}>
        Load it
      </button>
    </div>
  );
}

function Offline(): VNode | null {
  const { link } = useStore();
  const status = link.status.value;
  const isOffline = status.kind === "waiting" || status.kind === "connecting";
  const [isShown, setShown] = useState(false);
  const [reason, setReason] = useState("");
  useEffect(() => {
    if (!isOffline) {
      setShown(false);
      return undefined;
    }
    const timer = setTimeout(() => setShown(true), GRACE_MS);
    return () => clearTimeout(timer);
  }, [isOffline]);
  useEffect(() => {
    if (status.kind === "waiting") setReason(status.reason);
  }, [status]);
  if (!isShown) return null;
  return (
    <div class="connection" role="status">
      <Icon node={WifiOff} size={17} />
      <span>
        Offline. {reason} {status.kind === "waiting" ? <Countdown until={status.retryAt} /> : "Connecting…"}
      </span>
      <button class="button small" type="button" onClick={() => link.retry()}>
        Try now
      </button>
    </div>
  );
}

function Countdown({ until }: { readonly until: number }): VNode {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 500);
    return () => clearInterval(timer);
  }, []);
  return <span aria-hidden="true">Reconnecting in {Math.max(0, Math.ceil((until - now) / 1000))} s.</span>;
}
