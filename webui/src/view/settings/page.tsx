import type { ComponentChildren, VNode } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Signal } from "@preact/signals";
import { forgetAll } from "../../store/memory";
import { TEXT_SIZES, type Theme } from "../../store/preference";
import { useStore } from "../../store/store";
import { visible } from "../../text/visible";
import type { HealthCheckData } from "../../wire/generated";
import { Confirm } from "../control/confirm";
import { askToNotify, canNotify } from "../shell/notification";
import { useInstall } from "./install";
import "./settings.css";

const THEMES: readonly { readonly value: Theme; readonly name: string }[] = [
  { value: "system", name: "Like the system" },
  { value: "light", name: "Light" },
  { value: "dark", name: "Dark" },
];

export default function SettingsPage(): VNode {
  const { preferences } = useStore();
  const install = useInstall();
  return (
    <main class="page">
      <div class="page-inner settings">
        <header class="page-head">
          <h1>Settings</h1>
        </header>
        <Section title="Appearance">
          <label class="field">
            <span>Theme</span>
            <select
              class="select"
              value={preferences.theme.value}
              onChange={(event) => {
                preferences.theme.value = event.currentTarget.value as Theme;
              }}
            >
              {THEMES.map(({ value, name }) => (
                <option key={value} value={value}>
                  {name}
                </option>
              ))}
            </select>
          </label>
          <label class="field">
            <span>Text size</span>
            <select
              class="select"
              value={preferences.textSize.value}
              onChange={(event) => {
                preferences.textSize.value = Number(event.currentTarget.value);
              }}
            >
              {TEXT_SIZES.map((size) => (
                <option key={size} value={size}>
                  {size} %
                </option>
              ))}
            </select>
          </label>
        </Section>
        <Section title="Writing">
          <Switch
            value={preferences.enterSends}
            name="Enter sends the prompt"
            about="Shift and Enter then starts a new line. Touch screens have a send button."
          />
          <Switch value={preferences.shortcuts} name="Shortcuts with a single letter" about="Press ? to see them." />
        </Section>
        <Section title="Notifications">
          <Notifications />
        </Section>
        <Section title="App">
          <Switch
            value={preferences.offlinePages}
            name="Show conversations offline"
            about="Stores the newest page of each conversation that you open, and the list of projects, as text in this browser, until you switch this off or sign out."
            disabled={!("serviceWorker" in navigator)}
          />
          {install !== null && (
            <>
              <p class="hint">On the home screen it opens without the browser's bars.</p>
              <button class="button" type="button" onClick={install}>
                Install
              </button>
            </>
          )}
        </Section>
        <ThisDevice />
        <Server />
      </div>
    </main>
  );
}

function Section({ title, children }: { readonly title: string; readonly children: ComponentChildren }): VNode {
  return (
    <section class="card settings-section">
      <h2>{title}</h2>
      {children}
    </section>
  );
}

interface SwitchProps {
  readonly value: Signal<boolean>;
  readonly name: string;
  readonly about: string;
  readonly disabled?: boolean;
  readonly onChange?: (on: boolean) => void;
}

function Switch({ value, name, about, disabled = false, onChange }: SwitchProps): VNode {
  return (
    <label class="switch">
      <span>
        {name}
        <small class="hint">{about}</small>
      </span>
      <input
        type="checkbox"
        role="switch"
        checked={value.value}
        disabled={disabled}
        onChange={(event) => {
          const on = event.currentTarget.checked;
          if (onChange === undefined) value.value = on;
          else onChange(on);
        }}
      />
    </label>
  );
}

function Notifications(): VNode {
  const { preferences, toasts } = useStore();
  const change = async (on: boolean): Promise<void> => {
    const isAllowed = on && (await askToNotify());
    // Written twice, so that the switch falls back when it was not allowed.
    preferences.notifications.value = on;
    preferences.notifications.value = isAllowed;
    if (on && !isAllowed) toasts.say("The browser does not allow notifications from this page.");
  };
  return (
    <Switch
      value={preferences.notifications}
      name="Notify me when this page is in the background"
      about="Approvals, and executions that finish or fail. The server can also notify you while no page is open; see its configuration."
      disabled={!canNotify()}
      onChange={(on) => void change(on)}
    />
  );
}

function ThisDevice(): VNode | null {
  const { sessions, preferences } = useStore();
  const [isLeaving, setLeaving] = useState(false);
  const session = sessions.current.value;
  if (session.kind !== "paired") return null;
  const leave = async (): Promise<void> => {
    await sessions.leave();
    forgetAll();
    preferences.offlinePages.value = false;
  };
  return (
    <Section title="This device">
      <p>
        The server knows this browser as <strong>{visible(session.device.name)}</strong>.
      </p>
      <button class="button" type="button" onClick={() => setLeaving(true)}>
        Sign out
      </button>
      {isLeaving && (
        <Confirm title="Sign out?" action="Sign out" onConfirm={leave} onClose={() => setLeaving(false)}>
          <p>
            To come back, this browser needs a new pairing code. Drafts, prompts that were not sent, stored
            conversations and settings of this browser are deleted.
          </p>
        </Confirm>
      )}
    </Section>
  );
}

function Server(): VNode | null {
  const { link } = useStore();
  const [health, setHealth] = useState<HealthCheckData>();
  useEffect(() => {
    link.request("health_check", {}).then(setHealth, () => undefined);
  }, []);
  if (health === undefined) return null;
  return (
    <Section title="Server">
      <dl class="facts">
        <dt>Version</dt>
        <dd>{health.version}</dd>
        <dt>Health</dt>
        <dd>{health.status}</dd>
        <dt>Claude Code</dt>
        <dd>{health.claude.version ?? "not found"}</dd>
      </dl>
    </Section>
  );
}
