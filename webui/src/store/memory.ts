/** What the browser keeps for this client beyond a reload; where it may keep nothing, nothing is kept. */

/** What was kept under a name; null when nothing was, or nothing that can be read. */
export function recall(name: string): unknown {
  try {
    const text = localStorage.getItem(name);
    return text === null ? null : (JSON.parse(text) as unknown);
  } catch {
    return null;
  }
}

/** Keeps a value under a name; null or undefined forgets it. */
export function keep(name: string, value: unknown): void {
  try {
    if (value === null || value === undefined) localStorage.removeItem(name);
    else localStorage.setItem(name, JSON.stringify(value));
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
