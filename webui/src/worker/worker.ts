/**
 * The service worker: keeps the shell of the client (its page and its files), so that it opens without a
 * network. It never touches the API, the WebSocket or anything else that the server says.
 */
declare const self: ServiceWorkerGlobalScope;
declare const __SHELL__: { readonly version: string; readonly files: readonly string[] };

const SHELL = __SHELL__;
/** How long a server may take before the page that was kept is shown. */
const PATIENCE_MS = 3000;
const CACHE = `shell-${SHELL.version}`;
/** The server answers each of these with the same page. */
const PAGE = /^\/(?:$|pair$|devices$|dashboard$|settings$|p\/)/;

self.addEventListener("install", (event) => {
  event.waitUntil(keep());
});

self.addEventListener("activate", (event) => {
  event.waitUntil(takeOver());
});

self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  if (event.request.method !== "GET" || url.origin !== self.location.origin) return;
  if (event.request.mode === "navigate" && PAGE.test(url.pathname)) event.respondWith(page());
  else if (SHELL.files.includes(url.pathname)) event.respondWith(file(event.request));
});

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  const data: unknown = event.notification.data;
  event.waitUntil(show(typeof data === "string" ? data : "/"));
});

async function keep(): Promise<void> {
  const cache = await caches.open(CACHE);
  await cache.addAll(["/", ...SHELL.files]);
  await self.skipWaiting();
}

async function takeOver(): Promise<void> {
  const names = await caches.keys();
  await Promise.all(names.filter((name) => name !== CACHE).map((name) => caches.delete(name)));
  await self.clients.claim();
}

/** The page as the server has it now, else, without an answer or a quick one, the one that was kept. */
async function page(): Promise<Response> {
  const kept = await caches.match("/", { cacheName: CACHE });
  const asked = fetch("/", { cache: "no-cache" });
  if (kept === undefined) return asked;
  const late = new Promise<Response>((resolve) => setTimeout(() => resolve(kept), PATIENCE_MS));
  return Promise.race([asked.catch(() => kept), late]);
}

/** A file of this build; what is kept goes with its cache when another build comes. */
async function file(request: Request): Promise<Response> {
  return (await caches.match(request, { cacheName: CACHE })) ?? fetch(request);
}

/** Brings the client to the front, at a path of its own. */
async function show(path: string): Promise<void> {
  const open = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
  const first = open[0];
  if (first === undefined) await self.clients.openWindow(path);
  else {
    first.postMessage({ open: path });
    await first.focus();
  }
}
