import { createContext, type VNode } from "preact";
import { useContext } from "preact/hooks";
import { Check, ChevronRight, Hourglass, LoaderCircle, X } from "lucide";
import type { Image, ToolItem, ToolResult } from "../../conversation/item";
import { record } from "../../conversation/reading";
import type { Outcome } from "../../store/approvals";
import { Icon } from "../icon";
import { memo } from "../memo";
import { Clip } from "../text/clip";
import { useExpanded } from "../text/expansion";
import { toolOf } from "./tool";

/** The directory of the project, which need not be said of each file in it. */
export const ProjectFolder = createContext("");

interface ToolCardProps {
  readonly item: ToolItem;
  readonly result: ToolResult | undefined;
  /** Of the request to use it, if there was one. */
  readonly approvalId: string | undefined;
  readonly outcome: Outcome | undefined;
  /** Whether an execution goes on, so that a call without an answer is still at work. */
  readonly isRunning: boolean;
}

/** A tool call with what came of it. */
export const ToolCard = memo(function ToolCard(props: ToolCardProps): VNode {
  const { item, result } = props;
  const tool = toolOf(item.name);
  const input = record(item.input);
  const [open, setOpen] = useExpanded(item.key, tool.open);
  const Call = tool.call;
  const Result = tool.result;
  const showsCall = Call !== null && !(tool.isWholeInLine?.(input) ?? false);
  const folder = useContext(ProjectFolder);
  const whole = tool.subject(input);
  const subject = within(folder, whole);
  const isSaidTwice = props.outcome?.behavior === "deny" && props.outcome.message?.trim() === result?.text.trim();
  return (
    <section class="tool" aria-label={`${tool.label} ${subject}`.slice(0, 120)}>
      <button class="tool-head" type="button" aria-expanded={open} onClick={() => setOpen(!open)}>
        <Icon node={tool.icon} size={17} />
        <span class="tool-label">{tool.label}</span>
        <span class="tool-subject">{subject}</span>
        <State {...props} />
        <Icon node={ChevronRight} size={16} class="tool-fold" />
      </button>
      {open && (
        <div class="tool-body">
          {showsCall && (
            <Clip id={`${item.key} call`}>
              <Call input={input} />
            </Clip>
          )}
          {result !== undefined && !isSaidTwice && (
            <Clip id={`${item.key} result`}>
              <Result input={input} result={result} />
              {result.images.map((image, at) => (
                <Picture key={at} image={image} />
              ))}
            </Clip>
          )}
        </div>
      )}
      <Answered outcome={props.outcome} />
    </section>
  );
});

/** What a call is about, as somebody says it who stands in the project's directory. */
function within(folder: string, subject: string): string {
  if (folder === "") return subject;
  if (subject.endsWith(`  in ${folder}`)) return subject.slice(0, -`  in ${folder}`.length);
  return subject.replace(`${folder}/`, "");
}

function State({ result, approvalId, outcome, isRunning }: ToolCardProps): VNode | null {
  if (result !== undefined) {
    return (
      <span class={result.failed ? "tool-state failed" : "tool-state done"}>
        <Icon node={result.failed ? X : Check} size={16} />
        <span class="visually-hidden">{result.failed ? "failed" : "done"}</span>
      </span>
    );
  }
  if (approvalId !== undefined && outcome === undefined && isRunning) {
    return (
      <span class="badge warn">
        <Icon node={Hourglass} size={13} /> waits for you
      </span>
    );
  }
  if (!isRunning) return null;
  return (
    <span class="tool-state">
      <Icon node={LoaderCircle} size={16} class="turning" />
      <span class="visually-hidden">running</span>
    </span>
  );
}

/** Who has allowed or denied it. */
function Answered({ outcome }: Pick<ToolCardProps, "outcome">): VNode | null {
  if (outcome === undefined) return null;
  const { behavior, by, message } = outcome;
  if (behavior === "withdrawn") return <p class="tool-answer">The request was withdrawn: {message}</p>;
  return (
    <p class={`tool-answer ${behavior}`}>
      {behavior === "allow" ? "Allowed" : "Denied"} by {by}
      {message ? `: ${message}` : ""}
    </p>
  );
}

function Picture({ image }: { readonly image: Image }): VNode {
  return <img class="tool-picture" src={`data:${image.type};base64,${image.data}`} alt="Answer of the tool" />;
}
