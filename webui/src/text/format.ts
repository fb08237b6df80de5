/** Numbers and times for display. */

const COMPACT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const DAY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

/** 12345 as 12.3K. */
export function formatCount(count: number): string {
  return COMPACT.format(count);
}

/** US dollars, with as many digits as it takes to see that it is not nothing. */
export function formatCost(dollars: number): string {
  if (dollars === 0) return "$0";
  return dollars < 0.01 ? `$${dollars.toFixed(4)}` : `$${dollars.toFixed(2)}`;
}

/** Seconds as 4.2 s, 3 m 12 s or 2 h 5 m. */
export function formatDuration(seconds: number): string {
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : String(Math.round(seconds))} s`;
  const whole = Math.round(seconds);
  if (whole < 3600) return `${Math.floor(whole / 60)} m ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} m`;
}

/** Seconds of something that goes on, as 0:07 or 1:02:03. */
export function formatClock(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60)];
  const rest = String(whole % 60).padStart(2, "0");
  return hours > 0 ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

/** A time of today by the clock, another one with its day. */
export function formatTime(at: string, now = new Date()): string {
  const time = new Date(at);
  if (Number.isNaN(time.getTime())) return "";
  const sameDay = time.toDateString() === now.toDateString();
  return sameDay ? CLOCK.format(time) : `${DAY.format(time)}, ${CLOCK.format(time)}`;
}

/** When something that is paused goes on by itself, as a sentence; empty when it does not. */
export function untilText(at: string | null | undefined): string {
  const time = formatTime(at ?? "");
  return time === "" ? "" : `Continues at ${time}.`;
}

/** The same in full, for a tooltip. */
export function formatFullTime(at: string): string {
  const time = new Date(at);
  return Number.isNaN(time.getTime()) ? "" : FULL.format(time);
}

/** How long ago, roughly. */
export function formatAgo(at: string, now = Date.now()): string {
  const seconds = (now - new Date(at).getTime()) / 1000;
  if (Number.isNaN(seconds)) return "";
  if (seconds < 60) return "just now";
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  const days = Math.floor(seconds / 86_400);
  return days < 30 ? `${days} ${days === 1 ? "day" : "days"} ago` : DAY.format(new Date(at));
}

/** Bytes or characters as 12 KB. */
export function formatSize(size: number): string {
  if (size < 1000) return `${size} B`;
  return size < 1_000_000 ? `${Math.round(size / 1000)} KB` : `${(size / 1_000_000).toFixed(1)} MB`;
}
