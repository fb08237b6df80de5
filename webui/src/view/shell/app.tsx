import type { ComponentType, VNode } from "preact";
import { useEffect, useState } from "preact/hooks";
import { PAGES, type Page, type PageProps } from "../../page";
import { path } from "../../router";
import { useStore } from "../../store/store";
import { Pairing } from "../pairing/pairing";
import { Banner } from "./banner";
import { Navigation } from "./navigation";
import "./shell.css";

type Component = ComponentType<PageProps>;

/** Pages whose code has come already. */
const loaded = new Map<Page, Component>();

/** The whole client: what is shown for the present path. */
export function App(): VNode {
  const { sessions } = useStore();
  if (path.value === "/pair" || sessions.current.value.kind === "unpaired") return <Pairing />;
  return (
    <div class="shell">
      <aside class="sidebar" aria-label="Overview">
        <a class="brand" href="/" data-route>
          <img src="/icon.svg" alt="" />
          Pocket Agent
        </a>
        <Navigation label="Main" />
      </aside>
      <div class="main">
        <Banner />
        <Outlet />
      </div>
      <Navigation label="Pages" />
    </div>
  );
}

/** The page of the present path. */
function Outlet(): VNode {
  const shown = path.value;
  const page = PAGES.find((candidate) => candidate.path.test(shown));
  const [, setCame] = useState<Page>();
  useEffect(() => {
    document.title = page === undefined ? "Pocket Agent" : `${page.title} · Pocket Agent`;
    if (page === undefined || loaded.has(page)) return;
    void page.load().then(({ default: component }) => {
      loaded.set(page, component);
      setCame(page);
    });
  }, [page]);
  if (page === undefined) return <Missing />;
  const Shown = loaded.get(page);
  if (Shown === undefined) return <main class="page" aria-busy="true" />;
  const params = page.path.exec(shown)?.groups ?? {};
  return <Shown key={shown} params={params} />;
}

function Missing(): VNode {
  return (
    <main class="page">
      <div class="empty">
        <h2>There is no such page</h2>
        <a class="button" href="/" data-route>
          To the projects
        </a>
      </div>
    </main>
  );
}
