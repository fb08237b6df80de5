import type { VNode } from "preact";
import { useState } from "preact/hooks";
import type { Wish } from "../../device/invitation";
import type { Roster } from "../../device/roster";
import { useStore } from "../../store/store";
import { visible } from "../../text/visible";
import type { PairingStartData } from "../../wire/generated";
import { Problem, useAttempt } from "../control/attempt";
import { Sheet } from "../control/sheet";
import { Code } from "./code";

interface InviteProps {
  readonly roster: Roster;
  readonly onClose: () => void;
}

/** A code that is shown: what for, what the server made of it, and who was there before. */
interface Shown {
  readonly wish: Wish;
  readonly pairing: PairingStartData;
  readonly before: ReadonlySet<string>;
  readonly endsAt: number;
}

/** Lets one more device in: first what it may do, then the code. */
export function Invite({ roster, onClose }: InviteProps): VNode {
  const { link } = useStore();
  const [shown, setShown] = useState<Shown>();
  const start = async (wish: Wish): Promise<void> => {
    await roster.refresh();
    const before = new Set(roster.list.peek()?.map(({ id }) => id));
    const pairing = await link.request("pairing_start", wish);
    setShown({ wish, pairing, before, endsAt: Date.now() + pairing.expires_in * 1000 });
  };
  if (shown === undefined) return <Form onStart={start} onClose={onClose} />;
  return (
    <Code
      key={shown.pairing.code}
      {...shown}
      roster={roster}
      onAgain={() => start(shown.wish)}
      onOther={() => setShown(undefined)}
      onClose={onClose}
    />
  );
}

interface FormProps {
  readonly onStart: (wish: Wish) => Promise<void>;
  readonly onClose: () => void;
}

function Form({ onStart, onClose }: FormProps): VNode {
  const { projects } = useStore();
  const [name, setName] = useState("");
  const [viewOnly, setViewOnly] = useState(false);
  const [isLimited, setLimited] = useState(false);
  const [chosen, setChosen] = useState<readonly string[]>([]);
  const { isBusy, problem, start } = useAttempt(async () => {
    const called = name.trim();
    await onStart({ name: called === "" ? null : called, view_only: viewOnly, projects: isLimited ? chosen : null });
  });
  const toggle = (id: string, on: boolean): void =>
    setChosen(on ? [...chosen, id] : chosen.filter((other) => other !== id));
  return (
    <Sheet
      title="Pair a device"
      onClose={onClose}
      actions={
        <>
          <button class="button" type="button" onClick={onClose}>
            Cancel
          </button>
          <button
            class="button primary"
            type="submit"
            form="invite"
            disabled={isBusy || (isLimited && chosen.length === 0)}
          >
            Show the code
          </button>
        </>
      }
    >
      <form
        id="invite"
        class="invite"
        onSubmit={(event) => {
          event.preventDefault();
          start();
        }}
      >
        <fieldset class="choices">
          <legend>What it may do</legend>
          <Choice name="access" checked={!viewOnly} onChange={() => setViewOnly(false)} title="Prompts and approvals">
            Send prompts and answer agents
          </Choice>
          <Choice name="access" checked={viewOnly} onChange={() => setViewOnly(true)} title="View only">
            See what happens, and change nothing
          </Choice>
        </fieldset>
        {projects.list.value.length > 0 && (
          <fieldset class="choices">
            <legend>Where</legend>
            <Choice name="scope" checked={!isLimited} onChange={() => setLimited(false)} title="All projects">
              {viewOnly
                ? "Also those created later"
                : "Also those created later; it can create projects and manage devices"}
            </Choice>
            <Choice name="scope" checked={isLimited} onChange={() => setLimited(true)} title="Some projects">
              {viewOnly
                ? "It sees no others"
                : "It sees no others, but in these it can ask the agent for anything, and what is allowed runs as the server's user"}
            </Choice>
            {isLimited && (
              <ul class="invite-projects" aria-label="Projects that it may see">
                {projects.list.value.map(({ id, name, path }) => (
                  <li key={id}>
                    <label>
                      <input
                        type="checkbox"
                        checked={chosen.includes(id)}
                        onChange={(event) => toggle(id, event.currentTarget.checked)}
                      />
                      <span>
                        {visible(name)}
                        <small class="hint path">{visible(path)}</small>
                      </span>
                    </label>
                  </li>
                ))}
              </ul>
            )}
          </fieldset>
        )}
        <label class="field">
          <span>Name</span>
          <input
            class="input"
            maxLength={100}
            autocomplete="off"
            placeholder="The device names itself"
            value={name}
            onInput={(event) => setName(event.currentTarget.value)}
          />
        </label>
        <Problem text={problem} />
      </form>
    </Sheet>
  );
}

interface ChoiceProps {
  readonly name: string;
  readonly title: string;
  readonly children: string;
  readonly checked: boolean;
  readonly onChange: () => void;
}

function Choice({ name, title, children, checked, onChange }: ChoiceProps): VNode {
  return (
    <label class="choice">
      <input type="radio" name={name} checked={checked} onChange={onChange} />
      <span>
        {title}
        <small class="hint">{children}</small>
      </span>
    </label>
  );
}
