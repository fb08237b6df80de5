import type { VNode } from "preact";
import { useEffect, useState } from "preact/hooks";
import { useStore } from "../../store/store";
import { ServerError } from "../../wire/frame";
import type { ConversationState } from "../../store/projects";
import type { PathInspectData } from "../../wire/generated";
import { Problem, useAttempt } from "../control/attempt";
import { Sheet } from "../control/sheet";
import { Claims } from "./claims";

/** Shows what is new in the settings of a project, and accepts exactly what it shows. */
export function ReviewSettings({
  project: { id, path },
  onClose,
}: {
  readonly project: ConversationState;
  readonly onClose: () => void;
}): VNode {
  const { link } = useStore();
  const [found, setFound] = useState<PathInspectData>();
  const look = useAttempt(async () => {
    const offset = found?.claims.length ?? 0;
    const page = await link.request("path_inspect", { path, offset });
    if (found === undefined || page.hash === found.hash) {
      setFound({ ...page, claims: [...(found?.claims ?? []), ...page.claims] });
    } else setFound(await link.request("path_inspect", { path }));
  });
  const accept = useAttempt(async () => {
    try {
      await link.request("project_trust", { hash: found?.hash ?? "" }, { conversationId: id });
      onClose();
    } catch (error) {
      if (error instanceof ServerError && "hash" in error.details)
        setFound(await link.request("path_inspect", { path }));
      throw error;
    }
  });
  useEffect(look.start, []);
  // Only shown claims can be accepted: the new ones come first, and all of them are on the page.
  const isWhole = found !== undefined && found.claims.length >= (found.new ?? 0);
  return (
    <Sheet
      title="Settings of the project"
      onClose={onClose}
      actions={
        <>
          <button class="button" type="button" onClick={onClose}>
            Cancel
          </button>
          <button class="button primary" type="button" disabled={!isWhole || accept.isBusy} onClick={accept.start}>
            Accept
          </button>
        </>
      }
    >
      {found !== undefined &&
        (found.new === 0 ? <p>No new settings.</p> : <Claims {...found} fresh={found.new ?? 0} onMore={look.start} />)}
      <Problem text={look.problem || accept.problem} />
    </Sheet>
  );
}
