import type { VNode } from "preact";
import { useState } from "preact/hooks";
import { navigate } from "../../router";
import { useStore } from "../../store/store";
import { ServerError } from "../../wire/frame";
import type { Claim } from "../../wire/generated";
import { Problem, useAttempt } from "../control/attempt";
import { Sheet } from "../control/sheet";
import { Claims } from "./claims";
import { PathField } from "./path";

/** What a path would have the CLI do by itself. */
interface Inspected {
  readonly typed: string;
  readonly claims: readonly Claim[];
  readonly total: number;
  readonly counts: Readonly<Record<string, number>>;
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
  // Somebody may go on typing meanwhile: what was found counts for that path alone.
  const found = inspected?.typed === typed ? inspected : undefined;
  const { isBusy, problem, start } = useAttempt(async () => {
    if (found === undefined) {
      const {
        project_id,
        claims,
        total = claims.length,
        counts = {},
      } = await link.request("path_inspect", { path: typed });
      if (project_id !== null) {
        open(project_id);
        return;
      }
      if (claims.length > 0) {
        setInspected({ typed, claims, total, counts });
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
  const more = useAttempt(async () => {
    if (found === undefined) return;
    const { claims } = await link.request("path_inspect", { path: typed, offset: found.claims.length });
    setInspected({ ...found, claims: [...found.claims, ...claims] });
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
        <PathField value={path} onChange={setPath} offers={found === undefined} />
        {found !== undefined && <Claims {...found} onMore={more.start} />}
        <Problem text={problem || more.problem} />
      </form>
    </Sheet>
  );
}
