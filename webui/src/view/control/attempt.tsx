import type { VNode } from "preact";
import { useState } from "preact/hooks";
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

/** Why something did not work. */
export function Problem({ text }: { readonly text: string }): VNode | null {
  if (text === "") return null;
  return (
    <p class="problem" role="alert">
      {text}
    </p>
  );
}
