import type { VNode } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { Folder, FolderGit2 } from "lucide";
import { useStore } from "../../store/store";
import type { DirectoryData } from "../../wire/generated";
import { Icon } from "../icon";

interface PathFieldProps {
  readonly value: string;
  readonly onChange: (path: string) => void;
  /** Whether it shows how the path may go on. */
  readonly offers: boolean;
}

const PAUSE_MS = 120;

/** A field for a directory of the server's machine, which offers how the path may go on. */
export function PathField({ value, onChange, offers }: PathFieldProps): VNode {
  const found = useCompletions(value);
  const entries = offers ? found.entries : [];
  const [active, setActive] = useState(-1);
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => setActive(-1), [value]);
  const choose = (entry: DirectoryData): void => {
    // With a slash, so that what is in it is offered next.
    onChange(`${entry.path.replace(/\/$/, "")}/`);
    field.current?.focus();
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    const chosen = entries[active];
    if (event.key === "ArrowDown") setActive(Math.min(active + 1, entries.length - 1));
    else if (event.key === "ArrowUp") setActive(Math.max(active - 1, -1));
    else if (event.key === "Enter" && chosen !== undefined) choose(chosen);
    else if (event.key === "Tab" && !event.shiftKey && entries.length === 1 && entries[0]) choose(entries[0]);
    else return;
    event.preventDefault();
  };
  return (
    <div class="path-field">
      <label class="field">
        <span>Directory on the server's machine</span>
        <input
          ref={field}
          class="input"
          role="combobox"
          aria-expanded={entries.length > 0}
          aria-controls="path-choices"
          aria-autocomplete="list"
          aria-activedescendant={active < 0 ? undefined : `path-${active}`}
          autofocus
          autocapitalize="off"
          autocomplete="off"
          spellcheck={false}
          placeholder="/home/me/project"
          value={value}
          onInput={(event) => onChange(event.currentTarget.value)}
          onKeyDown={onKeyDown}
        />
      </label>
      <ul id="path-choices" class="path-choices" role="listbox" aria-label="Directories" hidden={!offers}>
        {entries.map((entry, at) => (
          <li
            key={entry.path}
            id={`path-${at}`}
            role="option"
            aria-selected={at === active}
            onPointerDown={(event) => event.preventDefault()}
            onClick={() => choose(entry)}
          >
            <Icon node={entry.project_id === null ? Folder : FolderGit2} size={18} />
            <span>{nameOf(entry.path, value)}</span>
            {entry.project_id !== null && <span class="badge accent">project</span>}
          </li>
        ))}
      </ul>
      {offers && found.isTruncated && <p class="hint">There are more; go on typing.</p>}
    </div>
  );
}

/** How the server says that a path may go on; a little after the last letter. */
function useCompletions(path: string): { readonly entries: readonly DirectoryData[]; readonly isTruncated: boolean } {
  const { link } = useStore();
  const [found, setFound] = useState<{ entries: readonly DirectoryData[]; isTruncated: boolean }>({
    entries: [],
    isTruncated: false,
  });
  useEffect(() => {
    let current = true;
    const timer = setTimeout(() => {
      link.request("path_complete", { path }, { timeoutMs: 10_000 }).then(
        ({ entries, truncated }) => {
          if (current) setFound({ entries, isTruncated: truncated });
        },
        () => undefined,
      );
    }, PAUSE_MS);
    return () => {
      current = false;
      clearTimeout(timer);
    };
  }, [path]);
  return found;
}

/** Where the path is being typed only the last part is news; a place to begin is shown whole. */
function nameOf(path: string, typed: string): string {
  return typed.trim() === "" ? path : path.slice(path.lastIndexOf("/") + 1);
}
