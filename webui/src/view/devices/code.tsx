import type { VNode } from "preact";
import { useEffect, useState } from "preact/hooks";
import { CircleCheckBig, TimerOff } from "lucide";
import { baseOf, guestOf, isLoopback, type Wish } from "../../device/invitation";
import type { Roster } from "../../device/roster";
import { formatClock } from "../../text/format";
import { visible } from "../../text/visible";
import type { DeviceData, PairingStartData } from "../../wire/generated";
import { Problem, useAttempt } from "../control/attempt";
import { Sheet } from "../control/sheet";
import { Icon } from "../icon";
import { Copied } from "./copied";
import { QrCode } from "./qr";

/** Poll often: a user waits with the other device. */
const INTERVAL_MS = 1000;

interface CodeProps {
  readonly wish: Wish;
  readonly pairing: PairingStartData;
  /** The devices that were there already. */
  readonly before: ReadonlySet<string>;
  /** When it expires, by this device's clock. */
  readonly endsAt: number;
  readonly roster: Roster;
  /** Makes another code of the same kind. */
  readonly onAgain: () => Promise<void>;
  /** Lets one more in, who may do something else. */
  readonly onOther: () => void;
  readonly onClose: () => void;
}

/** A code while it is valid: until a device has used it, or it has expired. */
export function Code({ wish, pairing, before, endsAt, roster, onAgain, onOther, onClose }: CodeProps): VNode {
  const left = useSecondsUntil(endsAt);
  const guest = guestOf(roster.list.value ?? [], before, wish);
  const isWaiting = guest === undefined;
  useEffect(() => (isWaiting ? roster.follow(INTERVAL_MS) : undefined), [isWaiting]);
  if (guest !== undefined) return <Paired guest={guest} onOther={onOther} onClose={onClose} />;
  if (left <= 0) return <Expired onAgain={onAgain} onClose={onClose} />;
  return (
    <Sheet title="Pair a device" onClose={onClose}>
      <Waiting pairing={pairing} left={left} />
    </Sheet>
  );
}

function Waiting({ pairing, left }: { readonly pairing: PairingStartData; readonly left: number }): VNode {
  const [at, setAt] = useState(0);
  const url = pairing.urls[at] ?? "";
  const isNear = isLoopback(url);
  return (
    <div class="pair-code">
      <p>
        {isNear
          ? "Open the link in another browser on the server's machine, or type the code there."
          : "Scan this with the camera of the other device, or open the link there."}
      </p>
      {isNear && <Unreachable />}
      {pairing.urls.length > 1 && (
        <label class="field">
          <span>The server&rsquo;s address, as the other device reaches it</span>
          <select class="select" value={at} onChange={(event) => setAt(Number(event.currentTarget.value))}>
            {pairing.urls.map((each, index) => (
              <option key={each} value={index}>
                {baseOf(each)}
              </option>
            ))}
          </select>
        </label>
      )}
      <div class="code-picture">
        <QrCode rows={pairing.qr[at] ?? []} label={`QR code of the link to pair, at ${baseOf(url)}`} />
      </div>
      <p class="code-letters">
        <span class="visually-hidden">Code: </span>
        {pairing.code}
      </p>
      <p class={left <= 30 ? "code-wait late" : "code-wait"}>
        <span class="spinner" />
        <span role="status">Waiting for the device</span>
        <span class="code-clock">{formatClock(left)}</span>
      </p>
      <div class="code-actions">
        <Copied text={url} label="Copy the link" />
        <Copied text={pairing.code} label="Copy the code" />
      </div>
      <p class="hint">
        The code works for one device. It can also be typed at <span class="path">{baseOf(url)}</span>.
      </p>
    </div>
  );
}

/** The server listens where no other device gets to. */
function Unreachable(): VNode {
  return (
    <div class="code-near" role="note">
      <strong>No phone reaches this address.</strong>{" "}
      <span>
        The server listens on its own machine only. Let it listen on your network (<code>server.host: 0.0.0.0</code>),
        or put a proxy or a tunnel in front and set <code>server.public_url</code>; then restart it.{" "}
        <code>docs/deployment/proxy.md</code> has examples.
      </span>
    </div>
  );
}

interface PairedProps {
  readonly guest: DeviceData;
  readonly onOther: () => void;
  readonly onClose: () => void;
}

function Paired({ guest, onOther, onClose }: PairedProps): VNode {
  return (
    <Sheet
      title="Pair a device"
      onClose={onClose}
      actions={
        <>
          <button class="button" type="button" onClick={onOther}>
            Pair another
          </button>
          <button class="button primary" type="button" autofocus onClick={onClose}>
            Done
          </button>
        </>
      }
    >
      <div class="code-end good" role="status">
        <Icon node={CircleCheckBig} size={44} />
        <p>
          <strong>{visible(guest.name)}</strong> is paired
        </p>
        <p class="hint">
          {guest.last_address === null
            ? "Its code is used up. If that is not the device in your hand, revoke it."
            : `It came from ${guest.last_address}. If that is not the device in your hand, revoke it.`}
        </p>
      </div>
    </Sheet>
  );
}

function Expired({ onAgain, onClose }: Pick<CodeProps, "onAgain" | "onClose">): VNode {
  const { isBusy, problem, start } = useAttempt(onAgain);
  return (
    <Sheet
      title="Pair a device"
      onClose={onClose}
      actions={
        <>
          <button class="button" type="button" onClick={onClose}>
            Close
          </button>
          <button class="button primary" type="button" disabled={isBusy} onClick={start}>
            New code
          </button>
        </>
      }
    >
      <div class="code-end" role="status">
        <Icon node={TimerOff} size={44} />
        <p>The code has expired</p>
        <p class="hint">It was not used, and it no longer works.</p>
      </div>
      <Problem text={problem} />
    </Sheet>
  );
}

function useSecondsUntil(endsAt: number): number {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 500);
    return () => clearInterval(timer);
  }, [endsAt]);
  return Math.ceil((endsAt - now) / 1000);
}
