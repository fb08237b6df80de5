import type { VNode } from "preact";
import { Brain, ChevronRight, CircleAlert } from "lucide";
import { ELICITATION } from "../../conversation/elicitation";
import type { ApprovalItem, Item, NoticeItem, PromptItem, TextItem } from "../../conversation/item";
import { record } from "../../conversation/reading";
import type { Timeline } from "../../conversation/timeline";
import type { Outcome } from "../../store/approvals";
import { formatFullTime, formatTime } from "../../text/format";
import type { ExecutionData } from "../../wire/generated";
import { Boundary } from "../boundary";
import { Icon } from "../icon";
import { memo } from "../memo";
import { Clip, ShowRest, restOf } from "../text/clip";
import { Json } from "../text/code";
import { CopyButton } from "../text/copy";
import { useExpanded } from "../text/expansion";
import { Markdown } from "../text/markdown";
import { ToolCard } from "../tool/card";
import { subjectOf, toolOf } from "../tool/tool";
import { Result } from "./result";

interface RowProps {
  readonly item: Item;
  readonly timeline: Timeline;
  readonly isRunning: boolean;
  /** Of a result: what its execution has used. */
  readonly execution: ExecutionData | undefined;
  /** Of a result: what the agent said last. */
  readonly answer: string | undefined;
}

/** One thing in a conversation. */
export function Row(props: RowProps): VNode {
  const { item } = props;
  const parent = "parent" in item ? item.parent : null;
  return (
    <div class={parent === null ? `row-${item.kind}` : `row-${item.kind} nested`} data-offset={item.offset}>
      <Boundary fallback={<p class="notice danger">This entry cannot be shown.</p>}>
        <Content {...props} />
      </Boundary>
    </div>
  );
}

function Content({ item, timeline, isRunning, execution, answer }: RowProps): VNode {
  switch (item.kind) {
    case "prompt":
      return <Prompt item={item} />;
    case "text":
      return <Said item={item} />;
    case "thinking":
      return <Thought item={item} />;
    case "tool": {
      const result = timeline.resultOf(item.id);
      const { approvalId, outcome } = timeline.approvalOf(item.id) ?? { approvalId: undefined, outcome: undefined };
      return <ToolCard item={item} result={result} isRunning={isRunning} approvalId={approvalId} outcome={outcome} />;
    }
    case "result":
      return <Result item={item} execution={execution} answer={answer} />;
    case "approval":
      return <Request item={item} outcome={timeline.outcomeOf(item.request.approval_id)} />;
    case "notice":
      return <Notice item={item} />;
  }
}

const Prompt = memo(function Prompt({ item }: { readonly item: PromptItem }): VNode {
  return (
    <article class="prompt" aria-label={`Prompt by ${item.by}`}>
      <p class="byline">
        {item.by} · <time title={formatFullTime(item.at)}>{formatTime(item.at)}</time>
        {item.isSteering && " · into the running turn"}
      </p>
      <div class="bubble">
        <Clip id={item.key} height={320} rest={restOf(item)}>
          <p class="prompt-text" dir="auto">
            {item.text}
          </p>
        </Clip>
      </div>
    </article>
  );
});

const Said = memo(function Said({ item }: { readonly item: TextItem }): VNode {
  const [whole, setWhole] = useExpanded(`${item.key} whole`, false);
  const rest = restOf(item);
  return (
    <article class="said" aria-label="Agent">
      <Markdown text={item.text} whole={whole} />
      {rest === undefined ? (
        <div class="said-actions">
          <CopyButton text={() => item.text} label="Copy text" />
        </div>
      ) : (
        <ShowRest rest={rest} onShow={() => setWhole(true)} />
      )}
    </article>
  );
});

const Thought = memo(function Thought({ item }: { readonly item: TextItem }): VNode {
  const [open, setOpen] = useExpanded(item.key, false);
  const rest = restOf(item);
  return (
    <section class="thought" aria-label="Thinking">
      <button type="button" aria-expanded={open} onClick={() => setOpen(!open)}>
        <Icon node={Brain} size={16} />
        <span class="thought-line" dir="auto">
          {open ? "Thinking" : firstLine(item.text)}
        </span>
        <Icon node={ChevronRight} size={16} class="tool-fold" />
      </button>
      {open && (
        <div class="thought-text">
          <Markdown text={item.text} />
          {rest !== undefined && <ShowRest rest={rest} />}
        </div>
      )}
    </section>
  );
});

interface RequestProps {
  readonly item: ApprovalItem;
  readonly outcome: Outcome | undefined;
}

const Request = memo(function Request({ item, outcome }: RequestProps): VNode {
  const tool = toolOf(item.request.tool_name);
  const subject = subjectOf(item.request.tool_name, record(item.request.input));
  const said =
    outcome === undefined
      ? "asked for"
      : outcome.behavior === "withdrawn"
        ? "withdrawn"
        : `${outcome.behavior === "allow" ? "allowed" : "denied"} by ${outcome.by ?? ""}`;
  const isAnswered = item.request.tool_name === ELICITATION && outcome?.input !== undefined;
  return (
    <div class="notice plain">
      <p>
        {tool.label} <code>{subject.slice(0, 200)}</code> {isAnswered ? `answered by ${outcome.by ?? ""}` : said}
        {outcome?.message ? `: ${outcome.message}` : ""}
      </p>
      {isAnswered && <Json value={outcome.input} />}
    </div>
  );
});

const Notice = memo(function Notice({ item }: { readonly item: NoticeItem }): VNode {
  if (item.tone === "divider") {
    return (
      <p class="divider">
        <span>{item.text}</span>
      </p>
    );
  }
  return (
    <div class={`notice ${item.tone}`}>
      {item.tone === "danger" && <Icon node={CircleAlert} size={17} />}
      <Clip id={item.key} height={160} rest={restOf(item)}>
        <p class="prompt-text" dir="auto">
          {item.text}
        </p>
      </Clip>
    </div>
  );
});

function firstLine(text: string): string {
  const line = text.trimStart().split("\n", 1)[0] ?? "";
  return line.replace(/[*_`#]/g, "");
}
