import type { VNode } from "preact";
import { useMemo, useState } from "preact/hooks";
import { FolderGit2, Plus, Search } from "lucide";
import { useStore } from "../../store/store";
import { AsOf, Pending } from "../control/pending";
import { Icon } from "../icon";
import { CreateProject } from "./create";
import { ProjectRow } from "./row";
import "./projects.css";

/** So few are seen at a glance. */
const SEARCH_FROM = 4;

export default function ProjectsPage(): VNode {
  const { projects, mayOwn } = useStore();
  const [isCreating, setCreating] = useState(false);
  const [search, setSearch] = useState("");
  const all = projects.list.value;
  const found = useMemo(() => matching(all, search), [all, search]);
  return (
    <main class="page">
      <div class="page-inner">
        <header class="page-head">
          <h1>Projects</h1>
          {mayOwn.value && (
            <button class="button primary" type="button" onClick={() => setCreating(true)}>
              <Icon node={Plus} />
              New project
            </button>
          )}
        </header>
        {all.length >= SEARCH_FROM && (
          <label class="search">
            <Icon node={Search} size={18} />
            <span class="visually-hidden">Search the projects</span>
            <input
              class="input"
              type="search"
              data-focus="main"
              placeholder="Search by name or path"
              value={search}
              onInput={(event) => setSearch(event.currentTarget.value)}
            />
          </label>
        )}
        <AsOf at={projects.asOf.value} />
        {!projects.loaded.value && projects.asOf.value === null && <Pending what="The list of projects" />}
        {projects.loaded.value && all.length === 0 && <None onCreate={mayOwn.value ? () => setCreating(true) : null} />}
        {all.length > 0 && found.length === 0 && <p class="hint">No matching project.</p>}
        <ul class="projects">
          {found.map((project) => (
            <ProjectRow key={project.id} project={project} />
          ))}
        </ul>
      </div>
      {isCreating && <CreateProject onClose={() => setCreating(false)} />}
    </main>
  );
}

function None({ onCreate }: { readonly onCreate: (() => void) | null }): VNode {
  return (
    <div class="empty">
      <Icon node={FolderGit2} size={40} />
      <h2>No projects yet</h2>
      <p>A project is a directory on the server's machine in which an agent works.</p>
      {onCreate !== null && (
        <button class="button primary" type="button" onClick={onCreate}>
          Choose a directory
        </button>
      )}
    </div>
  );
}

function matching<Value extends { readonly name: string; readonly path: string }>(
  projects: readonly Value[],
  search: string,
): readonly Value[] {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  return projects.filter(({ name, path }) => {
    const text = `${name} ${path}`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
}
