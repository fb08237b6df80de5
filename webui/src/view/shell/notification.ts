import type { News } from "./news";

/** Whether the browser supports system notifications. */
export function canNotify(): boolean {
  return "Notification" in window && isSecureContext;
}

/** Asks the person, if that was not done yet; @returns whether it is allowed. */
export async function askToNotify(): Promise<boolean> {
  if (!canNotify()) return false;
  return (await Notification.requestPermission()) === "granted";
}

/** Shows a system notification; clicking it opens its page. */
export async function notify({ title, body, path, isUrgent }: News): Promise<void> {
  if (!canNotify() || Notification.permission !== "granted") return;
  const options = {
    body,
    tag: path,
    data: path,
    icon: "/icon-192.png",
    badge: "/icon-192.png",
    requireInteraction: isUrgent,
  };
  // On a phone only a service worker may do so.
  const registration = await navigator.serviceWorker.getRegistration();
  if (registration !== undefined) await registration.showNotification(title, options);
  else new Notification(title, options);
}
