import type { VNode } from "preact";
import { useState } from "preact/hooks";
import { Check, Copy } from "lucide";
import { Icon } from "../icon";
import { copyText } from "../text/clipboard";

const SHOWN_MS = 1600;

/** A button with words that copies, and says that it did. */
export function Copied({ text, label }: { readonly text: string; readonly label: string }): VNode {
  const [copied, setCopied] = useState(false);
  const copy = async (): Promise<void> => {
    if (!(await copyText(text))) return;
    setCopied(true);
    setTimeout(() => setCopied(false), SHOWN_MS);
  };
  return (
    <button class="button" type="button" aria-live="polite" onClick={() => void copy()}>
      <Icon node={copied ? Check : Copy} size={18} />
      {copied ? "Copied" : label}
    </button>
  );
}
