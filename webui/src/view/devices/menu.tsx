import type { VNode } from "preact";
import { useState } from "preact/hooks";
import { Ban, KeyRound, LogOut, Pencil, type IconNode } from "lucide";
import { letInBy } from "../../device/order";
import type { Roster } from "../../device/roster";
import { forgetAll } from "../../store/memory";
import { useStore } from "../../store/store";
import { visible } from "../../text/visible";
import type { DeviceData, DeviceRevokedData } from "../../wire/generated";
import { Confirm } from "../control/confirm";
import { Sheet } from "../control/sheet";
import { Icon } from "../icon";
import { Rotate } from "./rotate";

interface ActionProps {
  readonly device: DeviceData;
  readonly roster: Roster;
  readonly onClose: () => void;
}

interface MenuProps extends ActionProps {
  readonly onRename: () => void;
}

/** What can be done with a device. */
export function DeviceMenu({ device, roster, onRename, onClose }: MenuProps): VNode {
  const [choice, setChoice] = useState<"menu" | "rotate" | "revoke">("menu");
  const props = { device, roster, onClose };
  if (choice === "rotate") return device.current ? <Renew onClose={onClose} /> : <Rotate {...props} />;
  if (choice === "revoke") return device.current ? <Leave device={device} onClose={onClose} /> : <Revoke {...props} />;
  return (
    <Sheet title={visible(device.name)} onClose={onClose}>
      <ul class="menu">
        <Line icon={Pencil} name="Rename" onClick={onRename} />
        <Line
          icon={KeyRound}
          name={device.current ? "Renew this browser's key" : "Replace its token"}
          onClick={() => setChoice("rotate")}
        />
        <Line
          icon={device.current ? LogOut : Ban}
          name={device.current ? "Sign out and revoke" : "Revoke"}
          danger
          onClick={() => setChoice("revoke")}
        />
      </ul>
    </Sheet>
  );
}

interface LineProps {
  readonly icon: IconNode;
  readonly name: string;
  readonly danger?: boolean;
  readonly onClick: () => void;
}

function Line({ icon, name, danger = false, onClick }: LineProps): VNode {
  return (
    <li>
      <button class={danger ? "danger" : ""} type="button" onClick={onClick}>
        <Icon node={icon} />
        {name}
      </button>
    </li>
  );
}

function Revoke({ device, roster, onClose }: ActionProps): VNode {
  const { toasts } = useStore();
  const [kill, setKill] = useState(false);
  const [paired, setPaired] = useState(false);
  const guests = letInBy(roster.list.value ?? [], device.id);
  const revoke = async (): Promise<void> => {
    const ended = await roster.revoke(device.id, { kill, paired });
    toasts.say(resultOf(visible(device.name), ended));
  };
  return (
    <Confirm title={`Revoke ${visible(device.name)}?`} action="Revoke" onConfirm={revoke} onClose={onClose}>
      <div class="device-ends">
        <p>
          It may no longer connect, and what it has open is closed at once. Its pairing codes end, and its queued
          prompts are withdrawn. This cannot be taken back: to let it in again, pair it anew.
        </p>
        {guests.length > 0 && (
          <Also checked={paired} onChange={setPaired} title="Revoke the devices that it let in">
            {visible(guests.map(({ name }) => name).join(", "))}
          </Also>
        )}
        <Kill device={device} checked={kill} onChange={setKill} />
      </div>
    </Confirm>
  );
}

/** What became of a device, in a line. */
function resultOf(name: string, { revoked, withdrawn, running }: DeviceRevokedData): string {
  const who = revoked.length > 1 ? `${name} and ${revoked.length - 1} more` : name;
  const queue = withdrawn > 0 ? ` ${withdrawn} queued ${withdrawn === 1 ? "prompt" : "prompts"} withdrawn.` : "";
  const goesOn = running.length > 0 ? ` ${running.length} of its prompts still run.` : "";
  return `${who} may no longer connect.${queue}${goesOn}`;
}

interface AlsoProps {
  readonly title: string;
  readonly children: string;
  readonly checked: boolean;
  readonly onChange: (checked: boolean) => void;
}

function Also({ title, children, checked, onChange }: AlsoProps): VNode {
  return (
    <label class="choice">
      <input type="checkbox" checked={checked} onChange={(event) => onChange(event.currentTarget.checked)} />
      <span>
        {title}
        <small class="hint">{children}</small>
      </span>
    </label>
  );
}

/** Offers to kill what a device runs, where it runs something. */
export function Kill({
  device,
  ...rest
}: { readonly device: DeviceData } & Omit<AlsoProps, "title" | "children">): VNode | null {
  const { projects } = useStore();
  if (device.running.length === 0) return null;
  const all = projects.list.value;
  const names = device.running.map(({ project_id: id }) => all.find((project) => project.id === id)?.name ?? id);
  return (
    <Also title="Kill what it runs now" {...rest}>
      {`In ${visible(names.join(", "))}. Otherwise that goes on to its end.`}
    </Also>
  );
}

function Leave({ device, onClose }: Omit<ActionProps, "roster">): VNode {
  const { sessions } = useStore();
  const [kill, setKill] = useState(false);
  const leave = async (): Promise<void> => {
    await sessions.leave(kill);
    forgetAll();
  };
  return (
    <Confirm title="Revoke this device?" action="Sign out" onConfirm={leave} onClose={onClose}>
      <p>
        You will be signed out here: <strong>{visible(device.name)}</strong> is the browser that you are using. Its
        pairing codes end, and its queued prompts are withdrawn. To come back you need a new code, from another device
        that has full access or from the server&rsquo;s machine.
      </p>
      <Kill device={device} checked={kill} onChange={setKill} />
    </Confirm>
  );
}

function Renew({ onClose }: { readonly onClose: () => void }): VNode {
  const { sessions, toasts } = useStore();
  const renew = async (): Promise<void> => {
    await sessions.renew();
    toasts.say("This browser has a new key. The old one no longer works.");
  };
  return (
    <Confirm title="Renew this browser's key?" action="Renew" tone="primary" onConfirm={renew} onClose={onClose}>
      <p>
        This browser stays paired, with another secret in its cookie. A copy of the old cookie no longer works; its
        queued prompts are withdrawn, and its pairing codes end.
      </p>
    </Confirm>
  );
}
