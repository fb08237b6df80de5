import type { VNode } from "preact";
import { useState } from "preact/hooks";
import { Check, Copy } from "lucide";
import { Icon } from "../icon";
import { copyText } from "./clipboard";

const SHOWN_MS = 1600;

/** A button that copies, and says that it did. */
export function CopyButton({ text, label = "Copy" }: { readonly text: () => string; readonly label?: string }): VNode {
  const [copied, setCopied] = useState(false);
  const copy = async (): Promise<void> => {
    if (!(await copyText(text()))) return;
    setCopied(true);
    setTimeout(() => setCopied(false), SHOWN_MS);
  };
  return (
    <button class="copy" type="button" aria-label={copied ? "Copied" : label} onClick={() => void copy()}>
      <Icon node={copied ? Check : Copy} size={16} />
    </button>
  );
}
