import type { VNode } from "preact";
import { useState } from "preact/hooks";
import { navigate } from "../../router";
import { useStore } from "../../store/store";
import { ServerError } from "../../wire/frame";
import { Sheet } from "../control/sheet";
import { PathField } from "./path";

/** Makes a directory a project. */
export function CreateProject({ onClose }: { readonly onClose: () => void }): VNode {
  const { link, projects } = useStore();
  const [path, setPath] = useState("");
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState(false);
  const open = (id: string): void => {
    onClose();
    navigate(`/p/${id}`);
  };
  const create = async (): Promise<void> => {
    setBusy(true);
    setProblem("");
    try {
      const project = await link.request("project_create", { path: path.trim().replace(/(?<=.)\/+$/, "") });
      projects.put(project);
      open(project.id);
    } catch (error) {
      const known =
        error instanceof ServerError && error.code === "PROJECT_EXISTS" ? error.details["project_id"] : null;
      if (typeof known === "string") open(known);
      else setProblem(error instanceof Error ? error.message : String(error));
      setBusy(false);
    }
  };
  return (
    <Sheet
      title="New project"
      onClose={onClose}
      actions={
        <>
          <button class="button" type="button" onClick={onClose}>
            Cancel
          </button>
          <button class="button primary" type="submit" form="create-project" disabled={busy || path.trim() === ""}>
            Create
          </button>
        </>
      }
    >
      <form
        id="create-project"
        class="create"
        onSubmit={(event) => {
          event.preventDefault();
          void create();
        }}
      >
        <PathField value={path} onChange={setPath} />
        {problem !== "" && (
          <p class="problem" role="alert">
            {problem}
          </p>
        )}
      </form>
    </Sheet>
  );
}
