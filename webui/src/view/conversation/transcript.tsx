import type { VNode } from "preact";
import { useCallback, useEffect, useMemo, useState } from "preact/hooks";
import { useComputed } from "@preact/signals";
import { ArrowDown } from "lucide";
import type { Conversation } from "../../conversation/conversation";
import type { Item, Rest } from "../../conversation/item";
import { useStore } from "../../store/store";
import { Icon } from "../icon";
import { List } from "../list/list";
import { LoadWhole } from "../text/clip";
import { Expansion, ExpansionProvider } from "../text/expansion";
import { LiveView, Working } from "./live";
import { Row } from "./row";

interface TranscriptProps {
  readonly conversation: Conversation;
  readonly isRunning: boolean;
}

/** The conversation as far as it is in memory, and what is being said now. */
export function Transcript({ conversation, isRunning }: TranscriptProps): VNode {
  const { approvals } = useStore();
  const { timeline } = conversation;
  const version = timeline.version.value;
  const expansion = useMemo(() => new Expansion(), [conversation]);
  const [isFollowing, setFollowing] = useState(true);
  const control = useMemo(() => ({ toEnd: (): void => undefined }), [conversation]);
  const waits = useComputed(() => approvals.waiting.value.some((one) => one.conversationId === conversation.id));
  const executions = conversation.executions.known.value;
  const ends = useMemo(() => endsOf(timeline.items), [version]);

  const loadWhole = useCallback((rest: Rest) => conversation.loadWhole(rest), [conversation]);
  const toNewest = async (): Promise<void> => {
    await conversation.toNewest();
    control.toEnd();
  };
  useEffect(() => {
    conversation.jump = () => void toNewest();
    return () => {
      conversation.jump = null;
    };
  }, [conversation]);
  const renderRow = (item: Item): VNode => {
    const { executionId, answer } = ends.get(item.key) ?? {};
    const execution = executionId === undefined ? undefined : executions.get(executionId);
    if (executionId !== undefined && execution === undefined) void conversation.executions.load();
    return <Row item={item} timeline={timeline} isRunning={isRunning} execution={execution} answer={answer} />;
  };

  return (
    <ExpansionProvider value={expansion}>
      <LoadWhole.Provider value={loadWhole}>
        <div class="transcript">
          <List
            label="Conversation"
            items={timeline.items}
            version={version}
            control={control}
            render={renderRow}
            footer={
              <div class="live-area">
                <LiveView conversation={conversation} />
                {isRunning && <Working since={conversation.startedAt.value} waits={waits.value} />}
              </div>
            }
            goesOn={timeline.hasNewer}
            onNearStart={() => void conversation.loadOlder()}
            onNearEnd={() => void conversation.loadNewer()}
            onFollow={(following) => {
              conversation.isFollowing = following;
              setFollowing(following);
            }}
          />
          {conversation.isReading.value && <div class="reading spinner" role="status" aria-label="Loading more" />}
          {(!isFollowing || timeline.hasNewer) && (
            <button class="jump" type="button" onClick={() => void toNewest()}>
              <Icon node={ArrowDown} size={18} />
              Newest
            </button>
          )}
        </div>
      </LoadWhole.Provider>
    </ExpansionProvider>
  );
}

interface End {
  readonly executionId: string | undefined;
  readonly answer: string | undefined;
}

/** For each result the execution that it ends, which is that of the prompt before it, and what was said last. */
function endsOf(items: readonly Item[]): ReadonlyMap<string, End> {
  const found = new Map<string, End>();
  let executionId: string | undefined;
  let steering: string | undefined;
  let answer: string | undefined;
  for (const item of items) {
    if (item.kind === "prompt" && item.isSteering) steering = item.executionId;
    else if (item.kind === "prompt") [executionId, steering, answer] = [item.executionId, undefined, undefined];
    else if (item.kind === "notice") executionId = item.executionId ?? executionId;
    else if (item.kind === "text" && item.parent === null) answer = item.size === undefined ? item.text : undefined;
    else if (item.kind === "result") {
      found.set(item.key, { executionId, answer });
      // A turn that ended before it took up the prompt leaves it the next one.
      executionId = steering ?? executionId;
    }
  }
  return found;
}
