import type { VNode } from "preact";
import { useEffect, useState } from "preact/hooks";
import { ELICITATION } from "../../conversation/elicitation";
import { list, record, text, type Loose } from "../../conversation/reading";
import type { Approval, Outcome } from "../../store/approvals";
import { useStore, type Answer } from "../../store/store";
import { visible } from "../../text/visible";
import { ServerError } from "../../wire/frame";
import { Boundary } from "../boundary";
import { Json, Whole } from "../text/code";
import { Questions, type Choices } from "../tool/question";
import { isKnown, subjectOf, toolOf } from "../tool/tool";
import { Editor } from "./editor";
import { Elicitation } from "./elicitation";
import { suggestionsOf } from "./suggestion";

/** Fingers that were about to tap something else have left by then. */
const GUARD_MS = 450;

type Mode = "look" | "edit" | "deny";

interface RequestProps {
  readonly approval: Approval;
}

interface OpenProps extends RequestProps {
  /** Whether the user sees it. */
  readonly isShown: boolean;
}

/** A tool request: what it would do, and what to say to it. */
export function Request({ approval, isShown }: OpenProps): VNode {
  const { mayAct } = useStore();
  if (approval.outcome !== undefined) return <Told outcome={approval.outcome} />;
  return mayAct.value ? <Open approval={approval} isShown={isShown} /> : <Watched approval={approval} />;
}

/** A request that this device may answer. */
function Open({ approval, isShown }: OpenProps): VNode {
  const { mayOwn } = useStore();
  const { toasts, answer } = useAnswer(approval);
  const { request } = approval;
  const input = record(request.input);
  const [mode, setMode] = useState<Mode>("look");
  const [choices, setChoices] = useState<Choices>({});
  const isReady = useReady(isShown);
  const isBusy = answer.busy;
  const isGuarded = isBusy || !isReady;
  const isQuestion = request.tool_name === "AskUserQuestion";
  const { always, mayEdit } = offersOf(approval, mayOwn.value);
  const say = (given: Answer): void => {
    answer.send(given).catch((error: unknown) => toasts.fail(error));
  };

  if (request.tool_name === ELICITATION) {
    return <Elicitation question={input} isBusy={isBusy} isGuarded={isGuarded} onAnswer={say} />;
  }
  if (mode === "edit") {
    return (
      <Editor
        name={request.tool_name}
        input={input}
        isBusy={isBusy}
        onCancel={() => setMode("look")}
        onAllow={(updatedInput) => say({ behavior: "allow", updatedInput })}
      />
    );
  }
  return (
    <>
      <div class="dock-body">
        <Description approval={approval} />
        {isQuestion ? (
          <Questions
            questions={list(input["questions"])}
            choices={choices}
            onChoose={(question, labels) => setChoices({ ...choices, [question]: labels })}
          />
        ) : (
          <Call name={request.tool_name} input={input} />
        )}
        {always.length > 0 && (
          <div class="dock-always">
            <p>&ldquo;Allow for this session&rdquo; also changes what is asked for until the session ends:</p>
            <ul>
              {always.map((line, at) => (
                <li key={at}>{line}</li>
              ))}
            </ul>
          </div>
        )}
      </div>
      {mode === "deny" ? (
        <Denial
          isBusy={isBusy}
          onCancel={() => setMode("look")}
          onDeny={(message) => say({ behavior: "deny", message })}
        />
      ) : (
        <footer class="dock-actions">
          <button class="button deny" type="button" disabled={isBusy} onClick={() => setMode("deny")}>
            Deny
          </button>
          {mayEdit && (
            <button class="button" type="button" disabled={isBusy} onClick={() => setMode("edit")}>
              Edit
            </button>
          )}
          {always.length > 0 && (
            <button
              class="button remember"
              type="button"
              disabled={isGuarded}
              onClick={() => say({ behavior: "allow", remember: true })}
            >
              Allow for this session
            </button>
          )}
          {isQuestion ? (
            <button
              class="button primary"
              type="button"
              disabled={isGuarded || !isAnswered(input, choices)}
              onClick={() => say({ behavior: "allow", updatedInput: answered(input, choices) })}
            >
              Answer
            </button>
          ) : (
            <button
              class="button primary allow"
              type="button"
              disabled={isGuarded}
              onClick={() => say({ behavior: "allow" })}
            >
              {request.tool_name === "ExitPlanMode" ? "Approve" : "Allow"}
            </button>
          )}
        </footer>
      )}
    </>
  );
}

/** A device that is limited to some projects can only allow or deny: the server refuses changed and remembered answers. */
function offersOf(
  { request }: Approval,
  mayOwn: boolean,
): { readonly always: readonly string[]; readonly mayEdit: boolean } {
  if (!mayOwn) return { always: [], mayEdit: false };
  return { always: suggestionsOf(request.suggestions), mayEdit: request.tool_name !== "AskUserQuestion" };
}

/** A request on a device that may not answer it. */
function Watched({ approval }: RequestProps): VNode {
  return (
    <>
      <div class="dock-body">
        <Description approval={approval} />
        <Call name={approval.request.tool_name} input={record(approval.request.input)} />
      </div>
      <p class="dock-told">This device may only watch; another device has to answer.</p>
    </>
  );
}

interface Sending {
  readonly busy: boolean;
  readonly send: (given: Answer) => Promise<void>;
}

function useAnswer(approval: Approval): {
  readonly answer: Sending;
  readonly toasts: ReturnType<typeof useStore>["toasts"];
} {
  const store = useStore();
  const [busy, setBusy] = useState(false);
  const send = async (given: Answer): Promise<void> => {
    setBusy(true);
    try {
      await store.answer(approval, given);
    } catch (error) {
      setBusy(false);
      // Another device was first; its answer is shown when it arrives.
      if (!(error instanceof ServerError && error.code === "APPROVAL_NOT_FOUND")) throw error;
      store.approvals.end(approval.id, firstAnswer(error));
    }
  };
  return { answer: { busy, send }, toasts: store.toasts };
}

function firstAnswer({ details }: ServerError): Outcome {
  const by = text(details["by"]);
  if (by === "") return { behavior: "withdrawn", by: null };
  return { behavior: details["behavior"] === "allow" ? "allow" : "deny", by };
}

function useReady(isShown: boolean): boolean {
  const [isReady, setReady] = useState(false);
  useEffect(() => {
    setReady(false);
    const timer = setTimeout(() => setReady(isShown), GUARD_MS);
    return () => clearTimeout(timer);
  }, [isShown]);
  return isReady;
}

function Told({ outcome: { behavior, by, message } }: { readonly outcome: Outcome }): VNode {
  const said = behavior === "allow" ? "Allowed" : behavior === "deny" ? "Denied" : "Withdrawn";
  return (
    <p class={`dock-told ${behavior}`} role="status">
      {said}
      {by === null ? "" : ` by ${visible(by)}`}
      {message ? `: ${visible(message)}` : ""}
    </p>
  );
}

/** The asking subagent, if any, and the agent's description, if it says more than the request itself. */
function Description({ approval }: RequestProps): VNode | null {
  const { request } = approval;
  const input = record(request.input);
  const said = text(input["description"]) || (request.description ?? "");
  const isNews = said !== "" && said !== request.tool_name && !toolOf(request.tool_name).subject(input).includes(said);
  return (
    <>
      {text(record(request)["agent_id"]) !== "" && <p class="dock-description">A subagent asks for this.</p>}
      {isNews && <p class="dock-description">{visible(said)}</p>}
    </>
  );
}

/** Everything that the tool would be called with. */
function Call({ name, input }: { readonly name: string; readonly input: Loose }): VNode {
  return (
    <Whole.Provider value={true}>
      <Boundary fallback={<Json value={input} />}>
        <Arguments name={name} input={input} />
      </Boundary>
    </Whole.Provider>
  );
}

function Arguments({ name, input }: { readonly name: string; readonly input: Loose }): VNode {
  const tool = toolOf(name);
  const Shown = tool.call;
  const rest = isKnown(name) ? Object.entries(input).filter(([key]) => !tool.fields.includes(key)) : [];
  const showsSubject = Shown === null || "file_path" in input || "notebook_path" in input;
  return (
    <div class="dock-call">
      {showsSubject && <p class="dock-path">{subjectOf(name, input)}</p>}
      {Shown !== null && <Shown input={input} />}
      {rest.length > 0 && (
        <dl class="dock-rest">
          {rest.map(([key, value]) => (
            <div key={key}>
              <dt>{visible(key)}</dt>
              <dd>{visible(typeof value === "string" ? value : JSON.stringify(value))}</dd>
            </div>
          ))}
        </dl>
      )}
    </div>
  );
}

interface DenialProps {
  readonly isBusy: boolean;
  readonly onCancel: () => void;
  readonly onDeny: (message: string) => void;
}

function Denial({ isBusy, onCancel, onDeny }: DenialProps): VNode {
  const [reason, setReason] = useState("");
  return (
    <form
      class="dock-denial"
      onSubmit={(event) => {
        event.preventDefault();
        onDeny(reason.trim());
      }}
    >
      <label class="field">
        <span>Reason, for the agent</span>
        <input
          class="input"
          ref={focus}
          value={reason}
          maxLength={100_000}
          placeholder="Say what it should do instead"
          onInput={(event) => setReason(event.currentTarget.value)}
        />
      </label>
      <div class="dock-actions">
        <button class="button" type="button" onClick={onCancel}>
          Back
        </button>
        <button class="button danger" type="submit" disabled={isBusy}>
          Deny
        </button>
      </div>
    </form>
  );
}

/** The attribute `autofocus` works once for each page that is loaded. */
function focus(field: HTMLElement | null): void {
  field?.focus();
}

function isAnswered(input: Loose, choices: Choices): boolean {
  return list(input["questions"]).every((question) => (choices[text(record(question)["question"])] ?? []).length > 0);
}

/** The input with the answers, as the CLI takes them: a text for each question. */
function answered(input: Loose, choices: Choices): Loose {
  const answers = Object.fromEntries(
    Object.entries(choices).map(([question, labels]) => [question, labels.join(", ")]),
  );
  return { ...input, answers };
}
