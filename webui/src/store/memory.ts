/** What the browser keeps for this client beyond a reload; where it may keep nothing, nothing is kept. */

/** The IndexedDB database and its object store: the key of the device, and the pages that are kept for offline. */
const DATABASE = "pocket-agent";
const STORE = "key";

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

/**
 * Does something with the object store.
 *
 * @throws DOMException when the browser has no store, or no space left in it.
 */
export async function inStore<Value>(
  mode: IDBTransactionMode,
  act: (store: IDBObjectStore) => IDBRequest<Value>,
): Promise<Value> {
  const opening = indexedDB.open(DATABASE, 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore(STORE);
  const database = await settled(opening);
  try {
    return await settled(act(database.transaction(STORE, mode).objectStore(STORE)));
  } finally {
    database.close();
  }
}

function settled<Value>(request: IDBRequest<Value>): Promise<Value> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error("IndexedDB failed."));
  });
}
