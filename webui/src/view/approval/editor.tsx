import type { VNode } from "preact";
import { useState } from "preact/hooks";
import { readable, record, text, type Loose } from "../../conversation/reading";
import { hides, visible } from "../../text/visible";

/** The one field of a tool that people change, where there is one; other tools are edited as JSON. */
const EDITABLE: Readonly<Record<string, string>> = {
  Bash: "command",
  Write: "content",
  Edit: "new_string",
  WebFetch: "url",
  WebSearch: "query",
  ExitPlanMode: "plan",
};

interface EditorProps {
  readonly name: string;
  readonly input: Loose;
  readonly isBusy: boolean;
  readonly onCancel: () => void;
  readonly onAllow: (input: Loose) => void;
}

/** Changes what a tool is called with, and allows it so. */
export function Editor({ name, input, isBusy, onCancel, onAllow }: EditorProps): VNode {
  const key = EDITABLE[name] ?? null;
  const [value, setValue] = useState(key === null ? readable(input) : text(input[key]));
  const changed = key === null ? parse(value) : { ...input, [key]: value };
  return (
    <form
      class="dock-editor"
      onSubmit={(event) => {
        event.preventDefault();
        if (changed !== null) onAllow(changed);
      }}
    >
      <label class="field">
        <span>{key === null ? "Input (JSON)" : `Change ${key.replace("_", " ")}`}</span>
        <textarea
          class="code"
          ref={(field) => field?.focus()}
          spellcheck={false}
          rows={Math.min(12, Math.max(3, value.split("\n").length))}
          value={value}
          aria-invalid={changed === null}
          onInput={(event) => setValue(event.currentTarget.value)}
        />
      </label>
      {hides(value) && <p class="dock-path">{visible(value)}</p>}
      {changed === null && <p class="problem">This is not a JSON object.</p>}
      <div class="dock-actions">
        <button class="button" type="button" onClick={onCancel}>
          Back
        </button>
        <button class="button primary" type="submit" disabled={isBusy || changed === null}>
          Allow with changes
        </button>
      </div>
    </form>
  );
}

function parse(value: string): Loose | null {
  try {
    const parsed: unknown = JSON.parse(value);
    return typeof parsed === "object" && parsed !== null && !Array.isArray(parsed) ? record(parsed) : null;
  } catch {
    return null;
  }
}
