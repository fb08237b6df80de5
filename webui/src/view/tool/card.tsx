import { createContext, type VNode } from "preact";
import { useContext } from "preact/hooks";
import { Check, ChevronRight, Hourglass, LoaderCircle, X } from "lucide";
import type { Image, ToolItem, ToolResult } from "../../conversation/item";
import { readable, record, type Loose } from "../../conversation/reading";
import type { Outcome } from "../../store/approvals";
import { visible } from "../../text/visible";
import { Icon } from "../icon";
import { memo } from "../memo";
import { Clip, restOf } from "../text/clip";
import { Diff } from "../text/code";
import { useExpanded } from "../text/expansion";
import { subjectOf, toolOf } from "./tool";

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
  const asked = record(item.input);
  const input = props.outcome?.input ?? asked;
  const [open, setOpen] = useExpanded(item.key, tool.open);
  const Call = tool.call;
  const Result = tool.result;
  const showsCall = Call !== null && !(tool.isWholeInLine?.(input) ?? false);
  const folder = useContext(ProjectFolder);
  const whole = subjectOf(item.name, input);
  const subject = within(folder, whole);
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
            <Clip id={`${item.key} call`} rest={restOf(item)}>
              <Call input={input} />
            </Clip>
          )}
          {input !== asked && item.name !== "AskUserQuestion" && <Changed asked={asked} allowed={input} />}
          {result !== undefined && !isSaidTwice(props) && (
            <Clip id={`${item.key} result`} rest={result.rest}>
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

/** The subject of a call, with paths relative to the project's directory. */
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
        <Icon node={Hourglass} size={13} /> waiting
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

/** Whether the answer of the tool is the reason of the denial, which is shown below it. */
function isSaidTwice({ result, outcome }: ToolCardProps): boolean {
  return outcome?.behavior === "deny" && outcome.message?.trim() === result?.text.trim();
}

/** What of a call was changed before it was allowed, field by field. */
function Changed({ asked, allowed }: { readonly asked: Loose; readonly allowed: Loose }): VNode {
  const words = (value: unknown): string => (typeof value === "string" ? value : readable(value));
  const names = [...new Set([...Object.keys(asked), ...Object.keys(allowed)])];
  return (
    <div class="tool-changed">
      <p class="hint note">Changed before it was allowed: − requested, + allowed.</p>
      {names
        .map((name) => [name, words(asked[name]), words(allowed[name])] as const)
        .filter(([, before, after]) => before !== after)
        .map(([name, before, after]) => (
          <div key={name}>
            <p class="hint note">{visible(name)}</p>
            <Diff before={before} after={after} />
          </div>
        ))}
    </div>
  );
}

/** The device that allowed or denied it. */
function Answered({ outcome }: Pick<ToolCardProps, "outcome">): VNode | null {
  if (outcome === undefined) return null;
  const { behavior, by, message } = outcome;
  if (behavior === "withdrawn") return <p class="tool-answer">The request was withdrawn: {visible(message ?? "")}</p>;
  return (
    <p class={`tool-answer ${behavior}`}>
      {behavior === "allow" ? "Allowed" : "Denied"} by {visible(by ?? "")}
      {message ? `: ${visible(message)}` : ""}
    </p>
  );
}

function Picture({ image }: { readonly image: Image }): VNode {
  return <img class="tool-picture" src={`data:${image.type};base64,${image.data}`} alt="Answer of the tool" />;
}
