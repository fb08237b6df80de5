import type { VNode } from "preact";
import { useState } from "preact/hooks";
import { useStore } from "../../store/store";
import type { ProjectStateData } from "../../wire/generated";
import { Sheet } from "../control/sheet";
import { MODELS, MODES, type Mode } from "./tuning";

interface ChooseProps {
  readonly project: ProjectStateData;
  readonly onClose: () => void;
}

/** Chooses the model, now and for later prompts. */
export function ChooseModel({ project, onClose }: ChooseProps): VNode {
  const { link, toasts } = useStore();
  const isOther = MODELS.every(({ value }) => value !== project.model);
  const [other, setOther] = useState(isOther ? (project.model ?? "") : "");
  const choose = (model: string | null): void => {
    link
      .request("set_model", { model }, { projectId: project.id })
      .then(onClose, (error: unknown) => toasts.fail(error));
  };
  return (
    <Sheet title="Model" onClose={onClose}>
      <fieldset class="choices">
        <legend class="visually-hidden">Model</legend>
        {MODELS.map(({ value, name, about }) => (
          <label key={name} class="choice">
            <input type="radio" name="model" checked={project.model === value} onChange={() => choose(value)} />
            <span>
              {name}
              <small class="hint">{about}</small>
            </span>
          </label>
        ))}
      </fieldset>
      <form
        class="other-model"
        onSubmit={(event) => {
          event.preventDefault();
          if (other.trim() !== "") choose(other.trim());
        }}
      >
        <label class="field">
          <span>Another one, by its name</span>
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
    </Sheet>
  );
}

/** Chooses what the agent may do without asking, now and for later prompts. */
export function ChooseMode({ project, onClose }: ChooseProps): VNode {
  const { link, toasts } = useStore();
  const choose = (mode: Mode): void => {
    const asked = link.request("set_permission_mode", { mode }, { projectId: project.id });
    asked.then(onClose, (error: unknown) => toasts.fail(error));
  };
  return (
    <Sheet title="Permission mode" onClose={onClose}>
      <fieldset class="choices">
        <legend class="visually-hidden">Permission mode</legend>
        {MODES.map(({ value, name, about }) => (
          <label key={name} class="choice">
            <input
              type="radio"
              name="mode"
              checked={(project.permission_mode ?? "default") === value}
              onChange={() => choose(value)}
            />
            <span>
              {name}
              <small class="hint">{about}</small>
            </span>
          </label>
        ))}
      </fieldset>
    </Sheet>
  );
}
