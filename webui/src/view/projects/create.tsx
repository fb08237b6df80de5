import type { VNode } from "preact";
import { useState } from "preact/hooks";
import { navigate } from "../../router";
import { useStore } from "../../store/store";
import { ServerError } from "../../wire/frame";
import { Problem, useAttempt } from "../control/attempt";
import { Sheet } from "../control/sheet";
import { PathField } from "./path";

/** Makes a directory a project. */
export function CreateProject({ onClose }: { readonly onClose: () => void }): VNode {
  const { link, projects } = useStore();
  const [path, setPath] = useState("");
  const open = (id: string): void => {
    onClose();
    navigate(`/p/${id}`);
  };
  const { isBusy, problem, start } = useAttempt(async () => {
    try {
      const project = await link.request("project_create", { path: path.trim().replace(/(?<=.)\/+$/, "") });
      projects.put(project);
      open(project.id);
    } catch (error) {
      const known =
        error instanceof ServerError && error.code === "PROJECT_EXISTS" ? error.details["project_id"] : null;
      if (typeof known !== "string") throw error;
      open(known);
    }
  });
  return (
    <Sheet
      title="New project"
      onClose={onClose}
      actions={
        <>
          <button class="button" type="button" onClick={onClose}>
            Cancel
          </button>
          <button class="button primary" type="submit" form="create-project" disabled={isBusy || path.trim() === ""}>
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
          start();
        }}
      >
        <PathField value={path} onChange={setPath} />
        <Problem text={problem} />
      </form>
    </Sheet>
  );
}
