/** What the browser keeps for this client beyond a reload; where it may keep nothing, nothing is kept. */

/** Until when something is kept: for good, or until the tab is closed. */
type Place = "device" | "tab";

function storage(place: Place): Storage {
  return place === "tab" ? sessionStorage : localStorage;
}

/** What was kept under a name; null when nothing was, or nothing that can be read. */
export function recall(name: string, place: Place = "device"): unknown {
  try {
    const text = storage(place).getItem(name);
    return text === null ? null : (JSON.parse(text) as unknown);
  } catch {
    return null;
  }
}

/** Keeps a value under a name; null or undefined forgets it. */
export function keep(name: string, value: unknown, place: Place = "device"): void {
  try {
    if (value === null || value === undefined) storage(place).removeItem(name);
    else storage(place).setItem(name, JSON.stringify(value));
  } catch {
    return; // full, or forbidden
  }
}

/** Forgets everything that this client has kept. */
export function forgetAll(): void {
  try {
    localStorage.clear();
  } catch {
    return;
  }
}
