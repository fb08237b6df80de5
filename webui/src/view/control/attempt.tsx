import type { VNode } from "preact";
import { useRef, useState } from "preact/hooks";
import { messageOf } from "../../wire/frame";

/** Something that the server was asked for by hand. */
interface Attempt {
  /** Whether its answer is still to come. */
  readonly isBusy: boolean;
  /** Why it did not work; empty otherwise. */
  readonly problem: string;
  readonly start: () => void;
}

/** Runs `action` when it is started, and keeps what went wrong. */
export function useAttempt(action: () => Promise<void>): Attempt {
  const [isBusy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");
  const run = async (): Promise<void> => {
    setBusy(true);
    setProblem("");
    try {
      await action();
    } catch (error) {
      setProblem(messageOf(error));
    }
    setBusy(false);
  };
  return { isBusy, problem, start: () => void run() };
}

/** Within it a second tap on a list was meant for the row that the first one has removed, in milliseconds. */
const DOUBLE_TAP_MS = 500;

/** Runs an action, unless another one ran just before. */
export function useSingleTap(): (action: () => void) => void {
  const last = useRef(-Infinity);
  return (action) => {
    const isSecond = performance.now() - last.current < DOUBLE_TAP_MS;
    last.current = performance.now();
    if (!isSecond) action();
  };
}

/** Why something did not work. */
export function Problem({ text }: { readonly text: string }): VNode | null {
  if (text === "") return null;
  return (
    <p class="problem" role="alert">
      {text}
    </p>
  );
}
