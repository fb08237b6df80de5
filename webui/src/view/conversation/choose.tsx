import type { ComponentChildren, VNode } from "preact";
import { useRef, useState } from "preact/hooks";
import { useStore } from "../../store/store";
import type { ConversationState } from "../../store/projects";
import { LIMITED_MODES } from "../../wire/generated";
import { Sheet } from "../control/sheet";
import { MODELS, MODES, type Choice, type Mode } from "./tuning";

interface ChooseProps {
  readonly project: ConversationState;
  readonly onClose: () => void;
}

interface OptionsProps<Value> {
  readonly title: string;
  readonly options: readonly Choice<Value>[];
  readonly current: Value | null;
  readonly onChoose: (value: Value) => Promise<unknown>;
  readonly onClose: () => void;
  readonly children?: ComponentChildren;
}

/** A sheet with one choice out of several; one that the server refuses is taken back. */
function Options<Value>({ title, options, current, onChoose, onClose, children }: OptionsProps<Value>): VNode {
  const { toasts } = useStore();
  const fields = useRef<HTMLFieldSetElement>(null);
  const choose = (value: Value): void => {
    onChoose(value).then(onClose, (error: unknown) => {
      toasts.fail(error);
      for (const [at, input] of [...(fields.current?.querySelectorAll("input") ?? [])].entries()) {
        input.checked = options[at]?.value === current;
      }
    });
  };
  return (
    <Sheet title={title} onClose={onClose}>
      <fieldset class="choices" ref={fields}>
        <legend class="visually-hidden">{title}</legend>
        {options.map(({ value, name, about }) => (
          <label key={name} class="choice">
            <input type="radio" name="option" checked={current === value} onChange={() => choose(value)} />
            <span>
              {name}
              <small class="hint">{about}</small>
            </span>
          </label>
        ))}
      </fieldset>
      {children}
    </Sheet>
  );
}

/** Chooses the model, now and for later prompts. */
export function ChooseModel({ project, onClose }: ChooseProps): VNode {
  const { link, toasts } = useStore();
  const isOther = MODELS.every(({ value }) => value !== project.model);
  const [other, setOther] = useState(isOther ? (project.model ?? "") : "");
  const choose = (model: string | null): Promise<unknown> =>
    link.request("set_model", { model }, { conversationId: project.id });
  return (
    <Options title="Model" options={MODELS} current={project.model} onChoose={choose} onClose={onClose}>
      <form
        class="other-model"
        onSubmit={(event) => {
          event.preventDefault();
          if (other.trim() !== "") choose(other.trim()).then(onClose, (error: unknown) => toasts.fail(error));
        }}
      >
        <label class="field">
          <span>Another model</span>
          <input
            class="input"
            value={other}
            maxLength={200}
            autocapitalize="off"
            autocomplete="off"
            spellcheck={false}
            onInput={(event) => setOther(event.currentTarget.value)}
          />
        </label>
        <button class="button" type="submit" disabled={other.trim() === ""}>
          Use
        </button>
      </form>
    </Options>
  );
}

/** Chooses what the agent may do without asking, now and for later prompts. */
export function ChooseMode({ project, onClose }: ChooseProps): VNode {
  const { link, mayOwn } = useStore();
  const modes = mayOwn.value ? MODES : MODES.filter(({ value }) => LIMITED_MODES.has(value));
  const choose = (mode: Mode): Promise<unknown> =>
    link.request("set_permission_mode", { mode }, { conversationId: project.id });
  const current = (project.permission_mode ?? "default") as Mode;
  return <Options title="Permission mode" options={modes} current={current} onChoose={choose} onClose={onClose} />;
}
