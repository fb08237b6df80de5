import { createContext } from "preact";
import { useContext } from "preact/hooks";
import { effect } from "@preact/signals";
import { Link } from "../connection/link";
import type { Wire } from "../connection/socket";
import { Projects } from "./projects";
import { Sessions } from "./session";

/** Everything that the client knows; there is one of it. */
export class Store {
  readonly link: Link;
  readonly sessions = new Sessions();
  readonly projects = new Projects();

  constructor(open: () => Wire) {
    this.link = new Link(open);
    this.link.onFrame((frame) => this.projects.accept(frame));
    this.link.onOpen((socket) => {
      socket.request("project_list", {}, undefined, ({ projects }) => this.projects.replace(projects)).catch(ignored);
    });
    effect(() => {
      const status = this.link.status.value;
      if (status.kind === "refused") this.sessions.refused(status.reason);
    });
    effect(() => {
      const session = this.sessions.current.value;
      if (session.kind === "paired") this.link.start();
      else if (session.kind === "unpaired") this.link.stop();
    });
  }

  /** Comes in, when this browser may. */
  async open(): Promise<void> {
    await this.sessions.refresh();
    if (this.sessions.current.value.kind === "unknown") this.link.start();
  }
}

/** The connection has ended; the next one asks again. */
function ignored(): void {
  return;
}

const Context = createContext<Store | null>(null);

export const StoreProvider = Context.Provider;

/** The store, inside the application. */
export function useStore(): Store {
  const store = useContext(Context);
  if (store === null) throw new Error("There is no store here.");
  return store;
}
