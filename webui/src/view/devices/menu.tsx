import type { VNode } from "preact";
import { useState } from "preact/hooks";
import { Ban, KeyRound, LogOut, Pencil, type IconNode } from "lucide";
import type { Roster } from "../../device/roster";
import { forgetAll } from "../../store/memory";
import { useStore } from "../../store/store";
import type { DeviceData } from "../../wire/generated";
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
    <Sheet title={device.name} onClose={onClose}>
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
  const revoke = async (): Promise<void> => {
    await roster.revoke(device.id);
    toasts.say(`${device.name} may no longer connect.`);
  };
  return (
    <Confirm title={`Revoke ${device.name}?`} action="Revoke" onConfirm={revoke} onClose={onClose}>
      <p>
        It may no longer connect, and what it has open is closed at once. This cannot be taken back: to let it in again,
        pair it anew.
      </p>
    </Confirm>
  );
}

function Leave({ device, onClose }: Omit<ActionProps, "roster">): VNode {
  const { sessions } = useStore();
  const leave = async (): Promise<void> => {
    await sessions.leave();
    forgetAll();
  };
  return (
    <Confirm title="Revoke this device?" action="Sign out" onConfirm={leave} onClose={onClose}>
      <p>
        You will be signed out here: <strong>{device.name}</strong> is the browser that you are using. To come back you
        need a new code, from another device that has full access or from the server&rsquo;s machine.
      </p>
    </Confirm>
  );
}

function Renew({ onClose }: { readonly onClose: () => void }): VNode {
  const { sessions, toasts } = useStore();
  const renew = async (): Promise<void> => {
    await sessions.renew();
    toasts.say("This browser has a new key. The old one is worth nothing now.");
  };
  return (
    <Confirm title="Renew this browser's key?" action="Renew" tone="primary" onConfirm={renew} onClose={onClose}>
      <p>
        This browser stays paired, with another secret in its cookie. Whoever may have copied the old one is locked out
        at once.
      </p>
    </Confirm>
  );
}
