import { h, type VNode } from "preact";
import type { IconNode } from "lucide";

interface IconProps {
  readonly node: IconNode;
  readonly size?: number;
  readonly class?: string;
}

/** A line drawing, in the colour of the text around it; what it means is said by that text. */
export function Icon({ node, size = 20, class: name = "" }: IconProps): VNode {
  return (
    <svg
      class={`icon ${name}`}
      width={size}
      height={size}
      viewBox="0 0 24 24"
      fill="none"
      stroke="currentColor"
      stroke-width="1.75"
      stroke-linecap="round"
      stroke-linejoin="round"
      aria-hidden="true"
    >
      {node.map(([tag, attributes]) => h(tag, attributes))}
    </svg>
  );
}
