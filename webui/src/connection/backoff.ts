/** The bound of the first wait. */
const INITIAL_MS = 250;
/** The bound of any wait. */
const MAXIMUM_MS = 15_000;

/**
 * A random wait before attempt number `attempt`, counted from 0: "full jitter", so that many clients do not
 * come back in step. The same values as in the client library.
 */
export function delay(attempt: number, random: () => number = Math.random): number {
  return random() * Math.min(MAXIMUM_MS, INITIAL_MS * 2 ** Math.min(attempt, 32));
}
