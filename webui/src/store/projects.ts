import { computed, signal, type ReadonlySignal } from "@preact/signals";
import type { ProjectStateData } from "../wire/generated";
import type { Frame } from "../wire/frame";

/** All projects of the server as they are now. */
export class Projects {
  private readonly known = signal<ReadonlyMap<string, ProjectStateData>>(new Map());
  private readonly asked = signal(false);
  private readonly storedAt = signal<string | null>(null);

  /** The most recently active first. */
  readonly list: ReadonlySignal<readonly ProjectStateData[]> = computed(() =>
    [...this.known.value.values()].sort((one, two) => two.last_active.localeCompare(one.last_active)),
  );

  /** Whether the list has arrived. */
  get loaded(): ReadonlySignal<boolean> {
    return this.asked;
  }

  /** When the list was stored that is shown until the server has sent one; null when it is the server's. */
  get asOf(): ReadonlySignal<string | null> {
    return this.storedAt;
  }

  get(id: string): ProjectStateData | undefined {
    return this.known.value.get(id);
  }

  /** Takes the whole list over. */
  replace(projects: readonly ProjectStateData[]): void {
    this.known.value = new Map(projects.map((project) => [project.id, project]));
    this.asked.value = true;
    this.storedAt.value = null;
  }

  /** Shows a list that was stored in this browser, until the server sends one. */
  restore(projects: readonly ProjectStateData[], at: string): void {
    this.known.value = new Map(projects.map((project) => [project.id, project]));
    this.storedAt.value = at;
  }

  accept(frame: Frame): void {
    if (frame.type === "project_state") this.put(frame.data);
    else if (frame.type === "project_deleted") this.remove(frame.data.project_id);
  }

  put(project: ProjectStateData): void {
    this.known.value = new Map(this.known.value).set(project.id, project);
  }

  private remove(id: string): void {
    const rest = new Map(this.known.value);
    if (rest.delete(id)) this.known.value = rest;
  }
}
