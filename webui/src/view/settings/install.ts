import { useEffect, useState } from "preact/hooks";

/** https://wicg.github.io/manifest-incubations/#beforeinstallpromptevent-interface */
interface InstallEvent extends Event {
  prompt(): Promise<unknown>;
}

let offered: InstallEvent | null = null;

addEventListener("beforeinstallprompt", (event) => {
  event.preventDefault();
  offered = event as InstallEvent;
});

/** What installs the client as an app, where the browser offers that; else null. */
export function useInstall(): (() => void) | null {
  const [event, setEvent] = useState(offered);
  useEffect(() => {
    const take = (): void => setEvent(offered);
    addEventListener("beforeinstallprompt", take);
    return () => removeEventListener("beforeinstallprompt", take);
  }, []);
  if (event === null) return null;
  return () => {
    offered = null;
    setEvent(null);
    void event.prompt();
  };
}
