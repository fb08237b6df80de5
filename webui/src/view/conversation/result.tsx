import type { VNode } from "preact";
import type { ResultItem } from "../../conversation/item";
import { formatCost, formatCount, formatDuration } from "../../text/format";
import type { ExecutionData } from "../../wire/generated";
import { memo } from "../memo";
import { CopyButton } from "../text/copy";

interface ResultProps {
  readonly item: ResultItem;
  /** The usage of its execution; undefined until it has arrived. */
  readonly execution: ExecutionData | undefined;
  /** What the agent said last. */
  readonly answer: string | undefined;
}

/** The end of a killed or timed out execution, which the CLI reports as an error. */
const ENDS: Readonly<Record<string, string>> = { killed: "Stopped", timeout: "Timed out" };

/** The end of a turn: how, after how long, and what it took. */
export const Result = memo(function Result({ item, execution, answer }: ResultProps): VNode {
  const end = item.failed ? (ENDS[execution?.status ?? ""] ?? "Ended with an error") : "Done";
  const isBad = item.failed && execution?.status !== "killed";
  return (
    <p class={isBad ? "result failed" : "result"} title={execution?.model ?? ""}>
      <span class="result-parts">
        <span>{end}</span>
        {figuresOf(item, execution).map((figure) => (
          <span key={figure}>{figure}</span>
        ))}
      </span>
      {answer !== undefined && <CopyButton text={() => answer} label="Copy the answer" />}
    </p>
  );
});

function figuresOf(item: ResultItem, execution: ExecutionData | undefined): readonly string[] {
  const { taken, given } = tokensOf(item, execution);
  const figures = [
    item.seconds === null ? null : formatDuration(item.seconds),
    taken === null ? null : `${formatCount(taken)} tokens in`,
    given === null ? null : `${formatCount(given)} out`,
    execution === undefined ? null : `${formatCost(execution.cost_usd)}${execution.incomplete ? " or more" : ""}`,
  ];
  return figures.filter((figure) => figure !== null);
}

/** Tokens by the server's account, else by the CLI's line, which says 0 for a turn that was stopped. */
function tokensOf(
  item: ResultItem,
  execution: ExecutionData | undefined,
): { readonly taken: number | null; readonly given: number | null } {
  if (execution === undefined || execution.usage.length === 0) {
    return { taken: item.inputTokens, given: item.outputTokens };
  }
  let [taken, given] = [0, 0];
  for (const used of execution.usage) {
    taken += used.input_tokens + used.cache_creation_tokens + used.cache_read_tokens;
    given += used.output_tokens;
  }
  return { taken, given };
}
