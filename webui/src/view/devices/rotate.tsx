import type { VNode } from "preact";
import { useState } from "preact/hooks";
import type { Roster } from "../../device/roster";
import { visible } from "../../text/visible";
import type { DeviceData } from "../../wire/generated";
import { Problem, useAttempt } from "../control/attempt";
import { Sheet } from "../control/sheet";
import { Copied } from "./copied";
import { Kill } from "./menu";

interface RotateProps {
  readonly device: DeviceData;
  readonly roster: Roster;
  readonly onClose: () => void;
}

/** Asks, replaces a device's token, and shows the new one. */
export function Rotate({ device, roster, onClose }: RotateProps): VNode {
  const [token, setToken] = useState("");
  const [kill, setKill] = useState(false);
  const { isBusy, problem, start } = useAttempt(async () => setToken((await roster.rotate(device.id, kill)).token));
  if (token !== "") return <Token name={device.name} token={token} onClose={onClose} />;
  return (
    <Sheet
      title={`Replace the token of ${visible(device.name)}?`}
      onClose={onClose}
      actions={
        <>
          <button class="button" type="button" autofocus onClick={onClose}>
            Cancel
          </button>
          <button class="button danger" type="button" disabled={isBusy} onClick={start}>
            Replace
          </button>
        </>
      }
    >
      <p>
        The old token ends at once, and what it has open is closed. Its pairing codes end, and its queued prompts are
        withdrawn. You get the new one, to put into the program.
      </p>
      <Kill device={device} checked={kill} onChange={setKill} />
      <p class="hint">
        A browser cannot be given a token. It renews its own key on its page of devices; if you do not trust it any
        more, revoke it and pair it anew.
      </p>
      <Problem text={problem} />
    </Sheet>
  );
}

function Token({ name, token, onClose }: { name: string; token: string; onClose: () => void }): VNode {
  return (
    <Sheet
      title={`New token of ${visible(name)}`}
      onClose={onClose}
      actions={
        <button class="button primary" type="button" onClick={onClose}>
          Done
        </button>
      }
    >
      <p role="status">Shown this once: the server keeps only its hash.</p>
      <code class="device-token">{token}</code>
      <Copied text={token} label="Copy the token" />
      <p class="hint">
        Programs send it as <code>Authorization: Bearer TOKEN</code>.
      </p>
    </Sheet>
  );
}
