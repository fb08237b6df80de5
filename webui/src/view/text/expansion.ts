import { createContext } from "preact";
import { useContext } from "preact/hooks";
import { signal, type ReadonlySignal } from "@preact/signals";

/** Which parts of a conversation are unfolded; it outlives that they are scrolled out of the document. */
export class Expansion {
  private readonly chosen = signal<ReadonlyMap<string, boolean>>(new Map());

  get choices(): ReadonlySignal<ReadonlyMap<string, boolean>> {
    return this.chosen;
  }

  set(key: string, open: boolean): void {
    this.chosen.value = new Map(this.chosen.value).set(key, open);
  }
}

const Context = createContext(new Expansion());

export const ExpansionProvider = Context.Provider;

/** Whether a part is unfolded, and how to change that. */
export function useExpanded(key: string, fallback: boolean): [boolean, (open: boolean) => void] {
  const expansion = useContext(Context);
  const open = expansion.choices.value.get(key) ?? fallback;
  return [open, (next) => expansion.set(key, next)];
}
