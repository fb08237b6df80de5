import type { VNode } from "preact";
import { outline } from "../../device/qr";

/** The quiet zone in modules (ISO/IEC 18004). */
const QUIET = 4;

/** A QR code, dark on light whatever the theme is. */
export function QrCode({ rows, label }: { readonly rows: readonly string[]; readonly label: string }): VNode {
  const size = rows.length + 2 * QUIET;
  return (
    <svg class="qr" viewBox={`${-QUIET} ${-QUIET} ${size} ${size}`} role="img" aria-label={label}>
      <rect x={-QUIET} y={-QUIET} width={size} height={size} fill="#fff" />
      <path d={outline(rows)} fill="#000" shape-rendering="crispEdges" />
    </svg>
  );
}
