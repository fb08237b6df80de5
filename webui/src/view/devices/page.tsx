import type { VNode } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { Eye, LockOpen, Plus } from "lucide";
import { Roster } from "../../device/roster";
import { useStore } from "../../store/store";
import { formatFullTime, formatTime } from "../../text/format";
import { visible } from "../../text/visible";
import type { PairingData } from "../../wire/generated";
import { Problem, useAttempt } from "../control/attempt";
import { Icon } from "../icon";
import { Invite } from "./invite";
import { Access, DeviceRow } from "./row";
import "./devices.css";

const INTERVAL_MS = 4000;

/** The devices: listed, renamed, revoked and paired. */
export default function DevicesPage(): VNode {
  const { link, mayOwn } = useStore();
  const roster = useMemo(() => new Roster(link), []);
  const [isPairing, setPairing] = useState(false);
  const isOwner = mayOwn.value;
  useEffect(() => (isOwner ? roster.follow(INTERVAL_MS) : undefined), [isOwner]);
  const isOpen = roster.isOpen.value;
  return (
    <main class="page">
      <div class="page-inner devices">
        <header class="page-head">
          <h1>Devices</h1>
          {isOwner && !isOpen && (
            <button class="button primary" type="button" onClick={() => setPairing(true)}>
              <Icon node={Plus} />
              Pair a device
            </button>
          )}
        </header>
        {!isOwner && <Limited />}
        {isOwner && isOpen && <Open />}
        {isOwner && !isOpen && <List roster={roster} />}
      </div>
      {isPairing && <Invite roster={roster} onClose={() => setPairing(false)} />}
    </main>
  );
}

function List({ roster }: { readonly roster: Roster }): VNode {
  const devices = roster.list.value;
  const problem = roster.problem.value;
  return (
    <>
      <p class="hint devices-about">
        Only these devices can connect. A device with full access can run commands on the server&rsquo;s machine: revoke
        each one that you have lost or do not recognize.
      </p>
      {problem !== "" && (
        <div class="problem devices-problem" role="alert">
          <span>{problem}</span>
          <button class="button" type="button" onClick={() => void roster.refresh()}>
            Try again
          </button>
        </div>
      )}
      {devices === null && problem === "" && <div class="spinner" role="status" aria-label="Loading the devices" />}
      <ul class="device-list" aria-label="Devices">
        {devices?.map((device) => (
          <DeviceRow key={device.id} device={device} roster={roster} />
        ))}
      </ul>
      <OpenCodes roster={roster} />
    </>
  );
}

/** The codes by which further devices may come in now, each until it is used, cancelled, or over. */
function OpenCodes({ roster }: { readonly roster: Roster }): VNode | null {
  const pairings = roster.pairings.value;
  const devices = roster.list.value ?? [];
  if (pairings.length === 0) return null;
  return (
    <section class="open-codes" aria-labelledby="open-codes">
      <h2 id="open-codes">Open pairing codes</h2>
      <ul class="device-list">
        {pairings.map((pairing) => (
          <OpenCode
            key={pairing.id}
            pairing={pairing}
            maker={devices.find((device) => device.id === pairing.device_id)?.name}
            roster={roster}
          />
        ))}
      </ul>
    </section>
  );
}

interface OpenCodeProps {
  readonly pairing: PairingData;
  /** The device that made it, if that is one of the list. */
  readonly maker: string | undefined;
  readonly roster: Roster;
}

function OpenCode({ pairing, maker, roster }: OpenCodeProps): VNode {
  const { isBusy, problem, start } = useAttempt(() => roster.cancel(pairing.id));
  const from = pairing.device_id === null ? "on the server's machine" : `by ${maker ?? "a user of single sign-on"}`;
  return (
    <li class="device card">
      <div class="device-text">
        <h3>{visible(pairing.name ?? "Any device")}</h3>
        <p class="device-presence away">
          Made {visible(from)}, good until{" "}
          <time dateTime={pairing.expires_at} title={formatFullTime(pairing.expires_at)}>
            {formatTime(pairing.expires_at)}
          </time>
        </p>
        <p class="device-facts">
          <Access device={pairing} />
        </p>
        <Problem text={problem} />
      </div>
      <button class="button" type="button" disabled={isBusy} onClick={start}>
        End this code
      </button>
    </li>
  );
}

/** For a device that does not see what concerns the whole server. */
function Limited(): VNode {
  const { sessions, mayAct } = useStore();
  const session = sessions.current.value;
  return (
    <div class="empty">
      <Icon node={Eye} size={40} />
      <h2>{mayAct.value ? "This device only sees some projects" : "This device may only watch"}</h2>
      <p>
        {session.kind === "paired" && (
          <>
            The server knows it as <strong>{visible(session.device.name)}</strong>.{" "}
          </>
        )}
        Devices are listed, paired and revoked on a device with full access.
      </p>
    </div>
  );
}

/** For a server without authentication. */
function Open(): VNode {
  return (
    <div class="empty">
      <Icon node={LockOpen} size={40} />
      <h2>Authentication is off: every client has full access</h2>
      <p>
        The server was started without authentication (<code>--no-auth</code>), so every program and user of its machine
        has full access. Start it without that to pair devices.
      </p>
    </div>
  );
}
