/** The dark modules of a QR code as an SVG path, a rectangle for those that touch in a row (`0` light, `1` dark). */
export function outline(rows: readonly string[]): string {
  return rows
    .flatMap((row, y) =>
      [...row.matchAll(/1+/g)].map(({ 0: run, index: x }) => `M${x} ${y}h${run.length}v1h-${run.length}z`),
    )
    .join("");
}
