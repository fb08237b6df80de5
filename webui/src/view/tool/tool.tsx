/** What each tool is called, what it is about, and how its call and its answer look. */
import type { VNode } from "preact";
import {
  Bot,
  CircleQuestionMark,
  ClipboardList,
  FilePen,
  FilePlus2,
  FileText,
  Globe,
  ListTodo,
  NotebookPen,
  Search,
  Terminal,
  Wrench,
  type IconNode,
} from "lucide";
import { ELICITATION } from "../../conversation/elicitation";
import type { ToolResult } from "../../conversation/item";
import { list, record, text, type Loose } from "../../conversation/reading";
import { languageOfPath } from "../../text/highlight";
import { visible } from "../../text/visible";
import { Code, Diff, Json, Output } from "../text/code";
import { Markdown } from "../text/markdown";
import { Questions, choicesOf } from "./question";
import { Todo } from "./todo";
import "./tool.css";

export interface CallProps {
  readonly input: Loose;
}

export interface ResultProps {
  readonly input: Loose;
  readonly result: ToolResult;
}

export interface Tool {
  readonly icon: IconNode;
  readonly label: string;
  /** In a line: what it is about. */
  readonly subject: (input: Loose) => string;
  /** The arguments that `subject`, `call` and the agent's description show; the others are listed below them. */
  readonly fields: readonly string[];
  /** The call in full, for the decision about it; null if the subject is complete. */
  readonly call: ((props: CallProps) => VNode | null) | null;
  /** What came of it. */
  readonly result: (props: ResultProps) => VNode | null;
  /** Whether the card is unfolded by itself. */
  readonly open: boolean;
  /** Whether the line with the subject is enough for a card. */
  readonly isWholeInLine?: (input: Loose) => boolean;
}

function ResultText({ result }: ResultProps): VNode | null {
  return result.text.trim() === "" ? null : <Output text={result.text} failed={result.failed} />;
}

/** For tools whose answer says nothing that the call does not. */
function OnlyFailure(props: ResultProps): VNode | null {
  return props.result.failed ? <ResultText {...props} /> : null;
}

function field(...names: readonly string[]): (input: Loose) => string {
  return (input) => names.map((name) => text(input[name])).find((value) => value !== "") ?? "";
}

const EDIT: Tool = {
  icon: FilePen,
  label: "Edit",
  subject: field("file_path"),
  fields: ["file_path", "old_string", "new_string", "replace_all"],
  call: ({ input }) => <Edits edits={[input]} />,
  result: OnlyFailure,
  open: true,
};

const SEARCH: Tool = {
  icon: Search,
  label: "Search",
  subject: (input) => [text(input["pattern"]), text(input["path"])].filter(Boolean).join("  in "),
  fields: ["pattern", "path"],
  call: null,
  result: ResultText,
  open: false,
};

const TASK: Tool = {
  icon: Bot,
  label: "Agent",
  subject: field("description", "name"),
  fields: ["description", "prompt"],
  call: ({ input }) => <Prose value={input["prompt"]} />,
  result: ({ result }) => <Prose value={result.text} />,
  open: false,
};

const TOOLS: Readonly<Record<string, Tool>> = {
  Bash: {
    icon: Terminal,
    label: "Run",
    subject: field("command"),
    fields: ["command", "description"],
    call: ({ input }) => <Code text={text(input["command"])} language="bash" />,
    result: ResultText,
    open: true,
    isWholeInLine: (input) => text(input["command"]).length < 60 && !text(input["command"]).includes("\n"),
  },
  Edit: EDIT,
  MultiEdit: {
    ...EDIT,
    fields: ["file_path", "edits"],
    call: ({ input }) => <Edits edits={list(input["edits"]).map(record)} />,
  },
  Write: {
    icon: FilePlus2,
    label: "Write",
    subject: field("file_path"),
    fields: ["file_path", "content"],
    call: ({ input }) => <Diff before="" after={text(input["content"])} />,
    result: OnlyFailure,
    open: true,
  },
  NotebookEdit: {
    ...EDIT,
    icon: NotebookPen,
    subject: field("notebook_path"),
    fields: ["notebook_path", "new_source"],
    call: ({ input }) => <Diff before="" after={text(input["new_source"])} />,
  },
  Read: {
    icon: FileText,
    label: "Read",
    subject: field("file_path"),
    fields: ["file_path"],
    call: null,
    result: ({ input, result }) =>
      result.failed || result.text === "" ? (
        <ResultText input={input} result={result} />
      ) : (
        <Code text={result.text} language={languageOfPath(text(input["file_path"]))} />
      ),
    open: false,
  },
  Grep: SEARCH,
  Glob: { ...SEARCH, label: "Find" },
  LS: { ...SEARCH, label: "List" },
  WebFetch: {
    icon: Globe,
    label: "Fetch",
    subject: field("url"),
    fields: ["url", "prompt"],
    call: ({ input }) => <Output text={`${text(input["url"])}\n${text(input["prompt"])}`} />,
    result: ({ result }) => <Prose value={result.text} />,
    open: false,
  },
  WebSearch: {
    icon: Globe,
    label: "Web search",
    subject: field("query"),
    fields: ["query"],
    call: null,
    result: ({ result }) => <Prose value={result.text} />,
    open: false,
  },
  TodoWrite: {
    icon: ListTodo,
    label: "Todo",
    subject: (input) => progress(list(input["todos"]).map(record)),
    fields: ["todos"],
    call: ({ input }) => <Todo todos={list(input["todos"])} />,
    result: OnlyFailure,
    open: true,
  },
  ExitPlanMode: {
    icon: ClipboardList,
    label: "Plan",
    subject: () => "approve it?",
    fields: ["plan"],
    call: ({ input }) => <Prose value={input["plan"]} />,
    result: OnlyFailure,
    open: true,
  },
  AskUserQuestion: {
    icon: CircleQuestionMark,
    label: "Question",
    subject: (input) => text(record(list(input["questions"])[0])["question"]),
    fields: ["questions"],
    call: ({ input }) => <Questions questions={list(input["questions"])} choices={choicesOf(input)} />,
    result: ResultText,
    open: true,
  },
  [ELICITATION]: {
    icon: CircleQuestionMark,
    label: "Question",
    subject: (input) => [text(input["mcp_server_name"]), text(input["message"])].join(": "),
    fields: ["mcp_server_name", "message", "mode"],
    call: ({ input }) => <Output text={text(input["message"])} />,
    result: ResultText,
    open: true,
  },
  Task: TASK,
  Agent: TASK,
};

/** Whether a tool has a view that is made for it; of another one all is shown as JSON. */
export function isKnown(name: string): boolean {
  return Object.hasOwn(TOOLS, name);
}

/** In a line: what a call is about, as it is shown. */
export function subjectOf(name: string, input: Loose): string {
  return visible(toolOf(name).subject(input));
}

/** How a tool looks; one that is not known shows its JSON. */
export function toolOf(name: string): Tool {
  return (isKnown(name) ? TOOLS[name] : undefined) ?? unknownTool(name);
}

function unknownTool(name: string): Tool {
  // Tools of MCP servers are called mcp__SERVER__TOOL.
  const label = visible(name.startsWith("mcp__") ? name.split("__").slice(1).join(" · ") : name);
  const subject = field("description", "query", "path", "file_path", "url", "name", "prompt", "command");
  return {
    icon: Wrench,
    label: label === "" ? "Tool" : label,
    subject,
    fields: [],
    call: ({ input }) => (Object.keys(input).length === 0 ? null : <Json value={input} />),
    result: ResultText,
    open: false,
  };
}

function Edits({ edits }: { readonly edits: readonly Loose[] }): VNode {
  return (
    <>
      {edits.map((edit, at) => (
        <div key={at}>
          {edit["replace_all"] === true && <p class="hint note">Everywhere in the file</p>}
          <Diff before={text(edit["old_string"])} after={text(edit["new_string"])} />
        </div>
      ))}
    </>
  );
}

function Prose({ value }: { readonly value: unknown }): VNode | null {
  if (text(value).trim() === "") return null;
  return (
    <div class="prose">
      <Markdown text={visible(text(value))} />
    </div>
  );
}

function progress(todos: readonly Loose[]): string {
  const done = todos.filter(({ status }) => status === "completed").length;
  return `${done} of ${todos.length} done`;
}
