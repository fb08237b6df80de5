import type { VNode } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import {
  EllipsisVertical,
  Eye,
  FolderGit2,
  Laptop,
  MonitorSmartphone,
  Smartphone,
  Tablet,
  Unlink,
  type IconNode,
} from "lucide";
import { seenProjects } from "../../device/order";
import type { Roster } from "../../device/roster";
import { useStore } from "../../store/store";
import { formatAgo, formatFullTime } from "../../text/format";
import { visible } from "../../text/visible";
import type { DeviceData } from "../../wire/generated";
import { Icon } from "../icon";
import { DeviceMenu } from "./menu";
import { Rename } from "./rename";

const UNBOUND =
  "This browser could not hold a key when it was paired, so a program that gets its cookie can connect as this device. Open the page by https, or as localhost.";

const KINDS: readonly (readonly [RegExp, IconNode])[] = [
  [/ipad|tablet/i, Tablet],
  [/iphone|android|phone|pixel|galaxy/i, Smartphone],
  [/mac|windows|linux|chromebook|laptop|notebook|desk/i, Laptop],
];

interface RowProps {
  readonly device: DeviceData;
  readonly roster: Roster;
}

/** A device in the list. */
export function DeviceRow({ device, roster }: RowProps): VNode {
  const [isOpen, setOpen] = useState(false);
  const [isRenaming, setRenaming] = useState(false);
  const more = useRef<HTMLButtonElement>(null);
  const wasRenaming = useRef(false);
  useEffect(() => {
    if (wasRenaming.current && !isRenaming) more.current?.focus();
    wasRenaming.current = isRenaming;
  }, [isRenaming]);
  const isOnline = device.connections > 0;
  return (
    <li class="device card">
      <span class={isOnline ? "device-mark online" : "device-mark"}>
        <Icon node={kindOf(device.name)} />
      </span>
      {isRenaming ? (
        <Rename device={device} roster={roster} onClose={() => setRenaming(false)} />
      ) : (
        <>
          <div class="device-text">
            <h2>
              <span class="device-name">{visible(device.name)}</span>
              {device.current && <span class="badge accent">This device</span>}
            </h2>
            <Presence device={device} />
            <p class="device-facts">
              <Access device={device} />
              {device.credential === "cookie" && !device.bound && (
                <span class="badge warn" title={UNBOUND}>
                  <Icon node={Unlink} size={14} />
                  No key
                </span>
              )}
              {device.running.length > 0 && <span class="badge">Runs {device.running.length}</span>}
              {device.queued > 0 && <span class="badge">{device.queued} queued</span>}
              <time class="hint" dateTime={device.created_at} title={formatFullTime(device.created_at)}>
                Added {formatAgo(device.created_at)}
              </time>
            </p>
          </div>
          <button
            ref={more}
            class="button quiet icon-only"
            type="button"
            aria-label={`Menu of ${visible(device.name)}`}
            onClick={() => setOpen(true)}
          >
            <Icon node={EllipsisVertical} />
          </button>
        </>
      )}
      {isOpen && (
        <DeviceMenu
          device={device}
          roster={roster}
          onRename={() => {
            setOpen(false);
            setRenaming(true);
          }}
          onClose={() => setOpen(false)}
        />
      )}
    </li>
  );
}

/** Whether it is connected, or when it was, and from where. */
function Presence({ device }: { readonly device: DeviceData }): VNode {
  const { connections, last_seen: seen, last_address: address } = device;
  const place = address === null ? null : <span class="device-address">{address}</span>;
  if (connections > 0) {
    return (
      <p class="device-presence">
        <span class="dot online" />
        Connected{connections > 1 && ` ${connections} times`}
        {place !== null && <> from {place}</>}
      </p>
    );
  }
  if (seen === null) return <p class="device-presence away">Never connected</p>;
  return (
    <p class="device-presence away">
      Last seen{" "}
      <time dateTime={seen} title={formatFullTime(seen)}>
        {formatAgo(seen)}
      </time>
      {place !== null && <> from {place}</>}
    </p>
  );
}

/** What it may do. */
export function Access({ device }: { readonly device: Pick<DeviceData, "view_only" | "projects"> }): VNode {
  const { projects } = useStore();
  // Read, so that a new name is shown.
  const all = projects.list.value;
  const names = seenProjects(device, (id) => all.find((project) => project.id === id)?.name);
  return (
    <>
      {!device.view_only && names === null && <span class="badge">Full access</span>}
      {device.view_only && (
        <span class="badge warn">
          <Icon node={Eye} size={14} />
          View only
        </span>
      )}
      {names !== null && (
        <span class="badge device-projects">
          <Icon node={FolderGit2} size={14} />
          <span>{names.length === 0 ? "Projects that are gone" : `Only ${visible(names.join(", "))}`}</span>
        </span>
      )}
    </>
  );
}

/** A drawing that distinguishes devices, derived from their names. */
function kindOf(name: string): IconNode {
  return KINDS.find(([pattern]) => pattern.test(name))?.[1] ?? MonitorSmartphone;
}
