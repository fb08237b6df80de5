import type { VNode } from "preact";
import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { entriesOf } from "../../conversation/entry";
import type { Rest } from "../../conversation/item";
import { Timeline } from "../../conversation/timeline";
import { useStore } from "../../store/store";
import { visible } from "../../text/visible";
import type { SessionData, SessionHistoryData } from "../../wire/generated";
import { Problem, useAttempt } from "../control/attempt";
import { Sheet } from "../control/sheet";
import { LoadWhole } from "../text/clip";
import { Expansion, ExpansionProvider } from "../text/expansion";
import { Row } from "./row";

/** A page: limits of its records and bytes; large records are truncated to previews. */
const PAGE = { limit: 100, max_bytes: 131_072, large: "reference" } as const;
/** The largest page; one record comes whole in any case. */
const WHOLE = { limit: 1, max_bytes: 8_388_608, large: "whole" } as const;

interface HistoryProps {
  readonly conversationId: string;
  readonly session: SessionData;
  readonly onClose: () => void;
}

/** The records of a session, from the CLI's own file: the newest ones, and a page more with each press. */
export function HistorySheet({ conversationId, session: { session_id, title }, onClose }: HistoryProps): VNode {
  const { link } = useStore();
  const timeline = useMemo(() => new Timeline(), []);
  const expansion = useMemo(() => new Expansion(), []);
  const rows = useRef<HTMLDivElement>(null);
  /** The positions of the records, and the end of the last one. */
  const positions = useRef<readonly number[]>([]);
  /** Before which the older page ends; null until the first one has come, 0 after the oldest one. */
  const [before, setBefore] = useState<number | null>(null);
  const ask = (data: typeof PAGE | typeof WHOLE, end: number | null): Promise<SessionHistoryData> =>
    link.request("session_history", { ...data, session_id, before: end }, { conversationId });
  const { isBusy, problem, start } = useAttempt(async () => {
    const page = await ask(PAGE, before);
    const older = entriesOf(page);
    if (timeline.items.length > 0) timeline.prepend(older, 0);
    else timeline.reset(older, 0, page.end);
    positions.current = [...older.map(({ offset }) => offset), ...(before === null ? [page.end] : positions.current)];
    setBefore(page.before);
  });
  const loadWhole = useCallback(async ({ offset }: Rest) => {
    const end = positions.current.find((position) => position > offset) ?? null;
    for (const entry of entriesOf(await ask(WHOLE, end))) timeline.replace(entry);
  }, []);
  useEffect(start, []);
  const isLoaded = before !== null;
  useEffect(() => rows.current?.lastElementChild?.scrollIntoView({ block: "end" }), [isLoaded]);
  // Reading it subscribes to a record that was replaced.
  const isEmpty = timeline.version.value > 0 && timeline.items.length === 0 && before === 0;
  return (
    <Sheet title={visible(title) || "Without a prompt"} onClose={onClose}>
      {before !== 0 && (
        <button class="button small" type="button" disabled={isBusy} onClick={start}>
          {isBusy ? "Loading…" : "Older"}
        </button>
      )}
      <Problem text={problem} />
      {isEmpty && <p class="hint">It has no messages.</p>}
      <ExpansionProvider value={expansion}>
        <LoadWhole.Provider value={loadWhole}>
          <div class="stack" ref={rows}>
            {timeline.items.map((item) => (
              <Row
                key={item.key}
                item={item}
                timeline={timeline}
                isRunning={false}
                execution={undefined}
                answer={undefined}
              />
            ))}
          </div>
        </LoadWhole.Provider>
      </ExpansionProvider>
    </Sheet>
  );
}
