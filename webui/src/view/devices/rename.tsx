import type { VNode } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Roster } from "../../device/roster";
import { useStore } from "../../store/store";
import { visible } from "../../text/visible";
import type { DeviceData } from "../../wire/generated";
import { Problem, useAttempt } from "../control/attempt";

interface RenameProps {
  readonly device: DeviceData;
  readonly roster: Roster;
  readonly onClose: () => void;
}

/** Gives a device another name, in its place in the list. */
export function Rename({ device, roster, onClose }: RenameProps): VNode {
  const { sessions } = useStore();
  const [name, setName] = useState(device.name);
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => {
    // After the menu has given the focus back.
    const timer = setTimeout(() => {
      field.current?.focus();
      field.current?.select();
    });
    return () => clearTimeout(timer);
  }, []);
  const { isBusy, problem, start } = useAttempt(async () => {
    if (name.trim() !== device.name) {
      await roster.rename(device.id, name.trim());
      if (device.current) void sessions.refresh();
    }
    onClose();
  });
  useEffect(() => {
    if (problem !== "") field.current?.focus();
  }, [problem]);
  return (
    <form
      class="device-rename"
      aria-label={`Rename ${visible(device.name)}`}
      onSubmit={(event) => {
        event.preventDefault();
        start();
      }}
      onKeyDown={(event) => {
        if (event.key === "Escape") onClose();
      }}
    >
      <input
        ref={field}
        class="input"
        aria-label="Name"
        aria-invalid={problem !== ""}
        required
        maxLength={100}
        autocomplete="off"
        value={name}
        onInput={(event) => setName(event.currentTarget.value)}
      />
      <div class="device-rename-actions">
        <button class="button" type="button" onClick={onClose}>
          Cancel
        </button>
        <button class="button primary" type="submit" disabled={isBusy || name.trim() === ""}>
          Save
        </button>
      </div>
      <Problem text={problem} />
    </form>
  );
}
