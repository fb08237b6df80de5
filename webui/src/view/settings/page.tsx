import type { VNode } from "preact";

export default function SettingsPage(): VNode {
  return (
    <main class="page">
      <div class="page-inner">
        <header class="page-head">
          <h1>Settings</h1>
        </header>
      </div>
    </main>
  );
}
