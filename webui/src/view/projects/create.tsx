import type { VNode } from "preact";
import { useState } from "preact/hooks";
import { navigate } from "../../router";
import { useStore } from "../../store/store";
import { ServerError } from "../../wire/frame";
import type { PathInspectData } from "../../wire/generated";
import { Problem, useAttempt } from "../control/attempt";
import { Sheet } from "../control/sheet";
import { Claims } from "./claims";
import { PathField } from "./path";

/** Makes a directory a project. */
export function CreateProject({ onClose }: { readonly onClose: () => void }): VNode {
  const { link, projects } = useStore();
  const [path, setPath] = useState("");
  const open = (id: string): void => {
    onClose();
    navigate(`/p/${id}`);
  };
  const [found, setFound] = useState<PathInspectData>();
  const typed = path.trim().replace(/(?<=.)\/+$/, "");
  const change = (value: string): void => {
    setPath(value);
    setFound(undefined);
  };
  const { isBusy, problem, start } = useAttempt(async () => {
    if (found === undefined) {
      const inspected = await link.request("path_inspect", { path: typed });
      if (inspected.project_id !== null) {
        open(inspected.project_id);
        return;
      }
      if (inspected.claims.length > 0) {
        setFound(inspected);
        return;
      }
    }
    try {
      const project = await link.request("project_create", { path: typed });
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
            {found === undefined ? "Create" : "Create all the same"}
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
        <PathField value={path} onChange={change} offers={found === undefined} />
        {found !== undefined && <Claims claims={found.claims} />}
        <Problem text={problem} />
      </form>
    </Sheet>
  );
}
