/** The unit of a series. */
export type Unit = "count" | "per_minute" | "seconds" | "bytes" | "bytes_per_second" | "ratio" | "usd";

const BINARY = ["B", "KiB", "MiB", "GiB", "TiB"];

/** A value for a person, short enough for an axis; "–" where there is none. */
export function shown(value: number | null | undefined, unit: Unit): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  switch (unit) {
    case "count":
      return compact(value);
    case "per_minute":
      return `${compact(value)}/min`;
    case "seconds":
      return seconds(value);
    case "bytes":
      return bytes(value);
    case "bytes_per_second":
      return `${bytes(value)}/s`;
    case "ratio":
      return `${digits(value * 100)} %`;
    case "usd":
      return `$${value !== 0 && Math.abs(value) < 0.1 ? digits(value) : value.toFixed(2)}`;
  }
}

/** A number of seconds as people say it. */
export function seconds(value: number): string {
  if (value === 0) return "0 s";
  if (value < 0.001) return `${digits(value * 1e6)} µs`;
  if (value < 1) return `${digits(value * 1e3)} ms`;
  if (value < 60) return `${digits(value)} s`;
  const whole = Math.round(value);
  if (whole < 3600) return pair(whole, 60, "min", "s");
  if (whole < 86_400) return pair(whole, 3600, "h", "min", 60);
  return pair(whole, 86_400, "d", "h", 3600);
}

/** The time of day of a moment in milliseconds since the epoch. */
export function clock(time: number, withSeconds = true): string {
  const second = withSeconds ? ({ second: "2-digit" } as const) : {};
  return new Date(time).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23", ...second });
}

/** How long it is since a moment. */
export function passed(time: number, now: number): string {
  return seconds(Math.round(Math.max(0, now - time) / 1000));
}

/** The same in a sentence. */
export function ago(time: number, now: number): string {
  return now - time < 1000 ? "just now" : `${passed(time, now)} ago`;
}

function pair(whole: number, large: number, name: string, smallName: string, small = 1): string {
  const rest = Math.floor((whole % large) / small);
  return rest === 0
    ? `${Math.floor(whole / large)} ${name}`
    : `${Math.floor(whole / large)} ${name} ${rest} ${smallName}`;
}

function bytes(value: number): string {
  let power = 0;
  let left = value;
  while (Math.abs(left) >= 1024 && power < BINARY.length - 1) {
    left /= 1024;
    power += 1;
  }
  return `${digits(left)} ${BINARY[power] ?? ""}`;
}

function compact(value: number): string {
  if (Math.abs(value) < 10_000) return digits(value);
  if (Math.abs(value) < 1e6) return `${digits(value / 1e3)} k`;
  return Math.abs(value) < 1e9 ? `${digits(value / 1e6)} M` : `${digits(value / 1e9)} G`;
}

/** Three significant digits, or all of a whole number. */
function digits(value: number): string {
  if (Number.isInteger(value) || Math.abs(value) >= 100) return String(Math.round(value));
  return String(Number(value.toPrecision(3)));
}
