import type { VNode } from "preact";
import { useMemo, useState } from "preact/hooks";
import { contentOf, fieldsOf, type Field } from "../../conversation/elicitation";
import { list, number, readable, text, type Loose } from "../../conversation/reading";
import type { Answer } from "../../store/store";
import { visible } from "../../text/visible";

interface ElicitationProps {
  readonly question: Loose;
  /** Whether nothing can be answered, as while an answer is sent. */
  readonly isBusy: boolean;
  /** Whether it has just appeared, so that a tap may have been meant for something else. */
  readonly isGuarded: boolean;
  readonly onAnswer: (answer: Answer) => void;
}

/** A question of an MCP server: a form, or an address at which the user answers. */
export function Elicitation({ question, isBusy, isGuarded, onAnswer }: ElicitationProps): VNode {
  const isPage = question["mode"] === "url";
  const fields = useMemo(() => (isPage ? [] : fieldsOf(question)), [question, isPage]);
  const [problem, setProblem] = useState("");
  const submit = (form: HTMLFormElement): void => {
    try {
      const content = contentOf(fields, new FormData(form));
      onAnswer(fields.length > 0 ? { behavior: "allow", content } : { behavior: "allow" });
    } catch (error) {
      setProblem((error as Error).message);
    }
  };
  return (
    <form
      class="dock-editor"
      onSubmit={(event) => {
        event.preventDefault();
        if (!isGuarded) submit(event.currentTarget);
      }}
    >
      <p class="dock-question" dir="auto">
        {visible(text(question["message"]))}
      </p>
      {isPage && <Address url={text(question["url"])} />}
      {fields.map((field, at) => (
        <Entry key={at} field={field} name={`${at}`} />
      ))}
      {problem !== "" && (
        <p class="problem" role="alert">
          {visible(problem)}
        </p>
      )}
      <div class="dock-actions">
        <button class="button deny" type="button" disabled={isBusy} onClick={() => onAnswer({ behavior: "deny" })}>
          Decline
        </button>
        <button
          class="button"
          type="button"
          disabled={isBusy}
          onClick={() => onAnswer({ behavior: "deny", cancel: true })}
        >
          Dismiss
        </button>
        <button class="button primary allow" type="submit" disabled={isGuarded}>
          {isPage ? "Done" : "Answer"}
        </button>
      </div>
    </form>
  );
}

/** Opened by the user only, and only when a browser would load a page for it. */
function Address({ url }: { readonly url: string }): VNode {
  const isPage = /^https?:\/\//i.test(url);
  return (
    <>
      <p class="dock-path">{visible(url)}</p>
      {isPage && (
        <p class="field">
          <a class="button" href={url} target="_blank" rel="noopener noreferrer">
            Open this page
          </a>
        </p>
      )}
      <p class="hint note">Continue here when you are done there.</p>
    </>
  );
}

interface EntryProps {
  readonly field: Field;
  readonly name: string;
}

function Entry({ field, name }: EntryProps): VNode {
  const { kind, options, schema, isRequired } = field;
  const preset = schema["default"];
  if (kind === "choices") {
    const chosen = list(preset);
    return (
      <fieldset class="question field">
        <legend>
          <Label field={field} />
        </legend>
        {options.map(([value, label]) => (
          <label key={value}>
            <input type="checkbox" name={name} value={value} defaultChecked={chosen.includes(value)} />
            <span dir="auto">{visible(label)}</span>
          </label>
        ))}
      </fieldset>
    );
  }
  if (kind === "boolean") {
    return (
      <div class="question field">
        <label>
          <input type="checkbox" name={name} defaultChecked={preset === true} />
          <span>
            <Label field={{ ...field, isRequired: true }} />
          </span>
        </label>
      </div>
    );
  }
  return (
    <label class="field">
      <span>
        <Label field={field} />
      </span>
      {kind === "choice" ? (
        <select class="select" name={name} required={isRequired}>
          <option value="" />
          {options.map(([value, label]) => (
            <option key={value} value={value} selected={value === preset}>
              {visible(label)}
            </option>
          ))}
        </select>
      ) : kind === "json" ? (
        <textarea
          class="code"
          name={name}
          rows={3}
          spellcheck={false}
          placeholder="JSON"
          required={isRequired}
          defaultValue={readable(preset)}
        />
      ) : (
        <input
          class="input"
          name={name}
          required={isRequired}
          defaultValue={typeof preset === "string" || typeof preset === "number" ? String(preset) : ""}
          {...(kind === "number" ? numberOf(schema) : textOf(schema))}
        />
      )}
    </label>
  );
}

function Label({ field: { label, description, isRequired } }: { readonly field: Field }): VNode {
  return (
    <>
      {visible(label)}
      {!isRequired && <span class="hint"> (optional)</span>}
      {description !== "" && (
        <>
          <br />
          <small class="hint">{visible(description)}</small>
        </>
      )}
    </>
  );
}

type Limits = Readonly<Record<string, string | number | undefined>>;

function numberOf(schema: Loose): Limits {
  const isWhole = schema["type"] === "integer";
  const [min, max] = [number(schema["minimum"]), number(schema["maximum"])];
  return { type: "number", step: isWhole ? 1 : "any", min: min ?? undefined, max: max ?? undefined };
}

const TYPES: Readonly<Record<string, string>> = { email: "email", uri: "url", date: "date" };

function textOf(schema: Loose): Limits {
  const format = text(schema["format"]);
  return {
    type: TYPES[format] ?? "text",
    minlength: number(schema["minLength"]) ?? undefined,
    maxlength: number(schema["maxLength"]) ?? undefined,
    placeholder: format === "date-time" ? "2030-01-31T12:00:00Z" : undefined,
  };
}
