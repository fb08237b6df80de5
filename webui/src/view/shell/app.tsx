import type { ComponentType, VNode } from "preact";
import { useEffect, useLayoutEffect, useState } from "preact/hooks";
import { PAGES, type Page, type PageProps } from "../../page";
import { path } from "../../router";
import { useStore } from "../../store/store";
import { ApprovalDock } from "../approval/dock";
import { Pairing } from "../pairing/pairing";
import { Banner } from "./banner";
import { Announcer } from "./announcer";
import { Navigation } from "./navigation";
import { Shortcuts } from "./shortcut";
import { Sidebar } from "./sidebar";
import { Toasts } from "./toasts";
import "./shell.css";

type Component = ComponentType<PageProps>;

/** Pages whose code was loaded. */
const loaded = new Map<Page, Component>();

/** The whole client: what is shown for the present path. */
export function App(): VNode {
  const { sessions } = useStore();
  const page = PAGES.find((candidate) => candidate.path.test(path.value));
  if (path.value === "/pair" || sessions.current.value.kind === "unpaired") return <Pairing />;
  return (
    <div class={page?.isFull ? "shell full" : "shell"}>
      <Sidebar />
      <div class="main">
        <Banner />
        <Outlet page={page} />
        {!page?.isFull && <ApprovalDock />}
        <Toasts />
      </div>
      <Navigation label="Pages" />
      <Announcer />
      <Shortcuts />
    </div>
  );
}

/** The page of the present path. */
function Outlet({ page }: { readonly page: Page | undefined }): VNode {
  const { seesAll } = useStore();
  const [problem, setProblem] = useState("");
  const [, setCame] = useState<Page>();
  // Before the effects of the page, which may have a better title.
  useLayoutEffect(() => {
    document.title = page === undefined ? "Pocket Agent" : `${page.title} · Pocket Agent`;
  }, [page]);
  useEffect(() => {
    if (page?.load === undefined || loaded.has(page)) return;
    setProblem("");
    page.load().then(
      ({ default: component }) => {
        loaded.set(page, component);
        setCame(page);
      },
      () => setProblem("This page could not be loaded. The server may have been upgraded: reload the client."),
    );
  }, [page]);
  if (page === undefined) return <Missing title="Page not found" />;
  if (page.isOfServer && !seesAll.value) return <Missing title="This device may only see some projects" />;
  const Shown = page.component ?? loaded.get(page);
  if (Shown === undefined) return problem === "" ? <main class="page" aria-busy="true" /> : <Broken text={problem} />;
  const params = page.path.exec(path.value)?.groups ?? {};
  return <Shown key={path.value} params={params} />;
}

function Missing({ title }: { readonly title: string }): VNode {
  return (
    <main class="page">
      <div class="empty">
        <h2>{title}</h2>
        <a class="button" href="/" data-route>
          To the projects
        </a>
      </div>
    </main>
  );
}

function Broken({ text }: { readonly text: string }): VNode {
  return (
    <main class="page">
      <div class="empty">
        <p>{text}</p>
        <button class="button" type="button" onClick={() => location.reload()}>
          Reload
        </button>
      </div>
    </main>
  );
}
