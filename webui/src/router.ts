import { signal, type ReadonlySignal } from "@preact/signals";

const current = signal(location.pathname);

/** The path of the page that is shown. */
export const path: ReadonlySignal<string> = current;

/** What waits for `history.back()`, which is carried out later; null while none is under way. */
let waiting: (() => void)[] | null = null;

/** Does something with the history: now, or once a step back that is under way is done, which would undo it. */
export function whenSettled(action: () => void): void {
  if (waiting === null) action();
  else waiting.push(action);
}

/** Goes one step back, from the entry of a sheet to its page. */
export function leaveSheetEntry(): void {
  waiting ??= [];
  history.back();
}

/** Whether the step back of `leaveSheetEntry` is under way. */
export function isLeaving(): boolean {
  return waiting !== null;
}

/** Shows another page. */
export function navigate(to: string, options: { replace?: boolean } = {}): void {
  whenSettled(() => show(to, options.replace ?? false));
}

function show(to: string, replace: boolean): void {
  if (to === location.pathname) return;
  if (replace || isSheetEntry()) history.replaceState(null, "", to);
  else history.pushState(null, "", to);
  current.value = location.pathname;
}

/** Whether the entry of the history is that of a sheet, which the page that comes next takes over. */
export function isSheetEntry(): boolean {
  return (history.state as { sheet?: unknown } | null)?.sheet === true;
}

/** Follows links within the client, and the browser's back and forward, without loading the page again. */
export function startRouter(): void {
  if (isSheetEntry()) history.replaceState(null, ""); // loaded again while one was open
  addEventListener("popstate", () => {
    const actions = waiting ?? [];
    waiting = null;
    current.value = location.pathname;
    for (const action of actions) action();
  });
  document.addEventListener("click", (event) => {
    const to = ownLink(event);
    if (to === null) return;
    event.preventDefault();
    navigate(to);
  });
}

function ownLink(event: MouseEvent): string | null {
  if (event.defaultPrevented || event.button !== 0) return null;
  if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return null;
  const link = event.target instanceof Element ? event.target.closest("a") : null;
  // A link in an agent's text is never a link of the client, and opens in a new page.
  if (link?.dataset["route"] === undefined || link.origin !== location.origin) return null;
  return link.pathname;
}
