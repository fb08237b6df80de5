import type { VNode } from "preact";
import { useStore } from "../../store/store";

export default function ProjectsPage(): VNode {
  const { projects } = useStore();
  return (
    <main class="page">
      <div class="page-inner">
        <header class="page-head">
          <h1>Projects</h1>
        </header>
        <ul>
          {projects.list.value.map((project) => (
            <li key={project.id}>
              <a href={`/p/${project.id}`} data-route>
                {project.name}
              </a>
            </li>
          ))}
        </ul>
      </div>
    </main>
  );
}
