import { computed, signal, type ReadonlySignal } from "@preact/signals";
import type { ProjectStateData } from "../wire/generated";
import type { Frame } from "../wire/frame";

/** A conversation as it is now. Its `id` is its own: that of its project for the main one. */
export interface ConversationState extends ProjectStateData {
  readonly projectId: string;
}

/** The conversations of all projects of the server as they are now. */
export class Projects {
  private readonly known = signal<ReadonlyMap<string, ConversationState>>(new Map());
  private readonly asked = signal(false);
  private readonly storedAt = signal<string | null>(null);

  /** All conversations, those that wait for the user first, then the most recently active. */
  readonly conversations: ReadonlySignal<readonly ConversationState[]> = computed(() =>
    [...this.known.value.values()].sort(
      (one, two) => Number(waits(two)) - Number(waits(one)) || two.last_active.localeCompare(one.last_active),
    ),
  );

  /** The main conversation of each project, the project with the most recent activity first. */
  readonly list: ReadonlySignal<readonly ConversationState[]> = computed(() => {
    const latest = new Map<string, string>();
    for (const { projectId, last_active } of this.known.value.values()) {
      if (last_active > (latest.get(projectId) ?? "")) latest.set(projectId, last_active);
    }
    const timeOf = ({ id }: ConversationState): string => latest.get(id) ?? "";
    return [...this.known.value.values()].filter(isMain).sort((one, two) => timeOf(two).localeCompare(timeOf(one)));
  });

  /** Whether the list has arrived. */
  get loaded(): ReadonlySignal<boolean> {
    return this.asked;
  }

  /** When the list was stored that is shown until the server has sent one; null when it is the server's. */
  get asOf(): ReadonlySignal<string | null> {
    return this.storedAt;
  }

  get(id: string): ConversationState | undefined {
    return this.known.value.get(id);
  }

  /** The conversations of a project besides the main one, in the order of `conversations`. */
  othersOf(project: string): readonly ConversationState[] {
    return this.conversations.value.filter((one) => one.projectId === project && !isMain(one));
  }

  /** Takes the whole list over. */
  replace(conversations: readonly ProjectStateData[]): void {
    this.known.value = new Map(conversations.map(made).map((one) => [one.id, one]));
    this.asked.value = true;
    this.storedAt.value = null;
  }

  /** Shows a list that was stored in this browser, until the server sends one. */
  restore(conversations: readonly ProjectStateData[], at: string): void {
    this.known.value = new Map(conversations.map(made).map((one) => [one.id, one]));
    this.storedAt.value = at;
  }

  accept(frame: Frame): void {
    if (frame.type === "project_state") this.put(frame.data);
    const rest = [...this.known.value].filter(([id]) => !isDeletedBy(frame, id));
    if (rest.length < this.known.value.size) this.known.value = new Map(rest);
  }

  /** @returns the conversation with this state. */
  put(state: ProjectStateData): ConversationState {
    const one = made(state);
    this.known.value = new Map(this.known.value).set(one.id, one);
    return one;
  }
}

/** Whether it waits for an answer to a request, or for what becomes of its queue. */
function waits({ pending_approvals, queue_hold }: ConversationState): boolean {
  return pending_approvals > 0 || queue_hold?.until === null;
}

/** Whether it is the main conversation of its project. */
export function isMain({ id, projectId }: ConversationState): boolean {
  return id === projectId;
}

/** The title of a conversation that is not the main one: the chosen one, else its first prompt. */
export function titleOf({ title, session_title }: ConversationState): string {
  return [title, session_title].find(Boolean) ?? "New conversation";
}

/** What a conversation is called where its project is not named: `PROJECT / TITLE`, or its project's name. */
export function nameOf(conversation: ConversationState): string {
  return isMain(conversation) ? conversation.name : `${conversation.name} / ${titleOf(conversation)}`;
}

/** Whether a frame reports that a conversation was deleted, by itself or with its project. */
export function isDeletedBy(frame: Frame, id: string): boolean {
  if (frame.type === "project_deleted") return projectOf(id) === frame.data.project_id;
  return frame.type === "conversation_deleted" && id === frame.data.conversation_id;
}

/** The project of a conversation: its id is that, or begins with it and a dot. */
export function projectOf(id: string): string {
  return id.split(".", 1)[0] ?? id;
}

function made(state: ProjectStateData): ConversationState {
  return { ...state, id: state.conversation_id ?? state.id, projectId: projectOf(state.id) };
}
