/** Below this height in pixels, parts do not scroll separately. */
const LOW = 480;

/** Keeps the client, sheets included, above the keyboard of a phone whose browser only moves the page behind it. */
export function followViewport(): void {
  const viewport = window.visualViewport;
  if (viewport === null) return;
  const { style } = document.documentElement;
  const apply = (): void => {
    // A page that was zoomed into is smaller for another reason.
    if (viewport.scale > 1.01) return;
    style.setProperty("--height", `${viewport.height}px`);
    style.setProperty("--below", `${Math.max(0, innerHeight - viewport.height - viewport.offsetTop)}px`);
    document.documentElement.toggleAttribute("data-low", viewport.height < LOW);
    if (viewport.offsetTop > 0) window.scrollTo(0, 0);
  };
  viewport.addEventListener("resize", () => {
    apply();
    document.activeElement?.scrollIntoView({ block: "nearest" });
  });
  viewport.addEventListener("scroll", apply);
  apply();
}
