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

/** What a path would have the CLI do by itself. */
interface Inspected extends PathInspectData {
  readonly typed: string;
}

/** Makes a directory a project. */
export function CreateProject({ onClose }: { readonly onClose: () => void }): VNode {
  const { link, projects } = useStore();
  const [path, setPath] = useState("");
  const open = (id: string): void => {
    onClose();
    navigate(`/p/${id}`);
  };
  const [inspected, setInspected] = useState<Inspected>();
  const typed = path.trim().replace(/(?<=.)\/+$/, "");
  // The user may continue typing during the request: the result is valid for its path only.
  const found = inspected?.typed === typed ? inspected : undefined;
  const { isBusy, problem, start } = useAttempt(async () => {
    let shown = found?.hash;
    if (found === undefined) {
      const reply = await link.request("path_inspect", { path: typed });
      if (reply.project_id !== null) {
        open(reply.project_id);
        return;
      }
      if (reply.claims.length > 0) {
        setInspected({ ...reply, typed });
        return;
      }
      shown = reply.hash;
    }
    try {
      const project = await link.request("project_create", { path: typed, hash: shown ?? null });
      projects.put(project);
      open(project.id);
    } catch (error) {
      if (error instanceof ServerError && "hash" in error.details) setInspected(undefined);
      const known =
        error instanceof ServerError && error.code === "PROJECT_EXISTS" ? error.details["project_id"] : null;
      if (typeof known !== "string") throw error;
      open(known);
    }
  });
  const more = useAttempt(async () => {
    if (found === undefined) return;
    const page = await link.request("path_inspect", { path: typed, offset: found.claims.length });
    setInspected(page.hash === found.hash ? { ...found, claims: [...found.claims, ...page.claims] } : undefined);
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
            {found === undefined ? "Create" : "Create anyway"}
          </button>
        </>
      }
    >
      <form
        id="create-project"
        class="stack"
        onSubmit={(event) => {
          event.preventDefault();
          start();
        }}
      >
        <PathField value={path} onChange={setPath} offers={found === undefined} />
        {found !== undefined && <Claims {...found} onMore={more.start} />}
        <Problem text={problem || more.problem} />
      </form>
    </Sheet>
  );
}
