import type { VNode } from "preact";
import { useCallback, useEffect, useMemo, useState } from "preact/hooks";
import { ArrowDown } from "lucide";
import type { Item, Rest } from "../../conversation/item";
import { SessionReader } from "../../conversation/session_reader";
import { useStore } from "../../store/store";
import { visible } from "../../text/visible";
import type { SessionData } from "../../wire/generated";
import { Problem } from "../control/attempt";
import { Sheet } from "../control/sheet";
import { Icon } from "../icon";
import { List } from "../list/list";
import { LoadWhole } from "../text/clip";
import { Expansion, ExpansionProvider } from "../text/expansion";
import { Row } from "./row";
import style from "./history.module.css";

interface HistoryProps {
  readonly conversationId: string;
  readonly session: SessionData;
  readonly onClose: () => void;
}

/** The records of a session, from the CLI's own file, followed while a terminal writes it. */
export function HistorySheet({ conversationId, session: { session_id, title }, onClose }: HistoryProps): VNode {
  const { link } = useStore();
  const reader = useMemo(() => new SessionReader(link, conversationId, session_id), [conversationId, session_id]);
  const expansion = useMemo(() => new Expansion(), [reader]);
  const control = useMemo(() => ({ toEnd: (): void => undefined }), [reader]);
  const [isFollowing, setFollowing] = useState(true);
  useEffect(() => {
    reader.start();
    return () => reader.stop();
  }, [reader]);
  const loadWhole = useCallback((rest: Rest) => reader.loadWhole(rest), [reader]);
  const toNewest = async (): Promise<void> => {
    await reader.toNewest();
    control.toEnd();
  };
  const { timeline } = reader;
  const version = timeline.version.value;
  const isActive = reader.active.value;
  const isLoaded = reader.loaded.value;
  const renderRow = (item: Item): VNode => (
    <Row item={item} timeline={timeline} isRunning={isActive} execution={undefined} answer={undefined} />
  );
  return (
    <Sheet title={visible(title) || "Without a prompt"} onClose={onClose} isFull>
      <p class={`hint ${style["state"]}`} role="status">
        {isActive && <span class="dot working" />}
        {isActive ? "Open in a terminal, followed live" : "Not open in a terminal"}
      </p>
      <Problem text={reader.problem.value} />
      {!isLoaded && <div class="spinner" role="status" aria-label="Loading" />}
      {isLoaded && timeline.isEmpty.value && <p class="hint">It has no messages.</p>}
      <ExpansionProvider value={expansion}>
        <LoadWhole.Provider value={loadWhole}>
          <div class={`transcript ${style["records"]}`}>
            {isLoaded && (
              <List
                label="Session"
                items={timeline.items}
                version={version}
                control={control}
                render={renderRow}
                footer={null}
                goesOn={timeline.hasNewer}
                onNearStart={() => void reader.loadOlder()}
                onNearEnd={() => undefined}
                onFollow={setFollowing}
              />
            )}
            {reader.isReading.value && <div class="reading spinner" role="status" aria-label="Loading more" />}
            {(!isFollowing || timeline.hasNewer) && (
              <button class="jump" type="button" onClick={() => void toNewest()}>
                <Icon node={ArrowDown} size={18} />
                Newest
              </button>
            )}
          </div>
        </LoadWhole.Provider>
      </ExpansionProvider>
    </Sheet>
  );
}
