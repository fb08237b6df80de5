/** Keeps the client above the keyboard of a phone whose browser only moves the page behind it. */
export function followViewport(): void {
  const viewport = window.visualViewport;
  if (viewport === null) return;
  const apply = (): void => {
    // A page that was zoomed into is smaller for another reason.
    if (viewport.scale > 1.01) return;
    document.documentElement.style.setProperty("--height", `${viewport.height}px`);
    if (viewport.offsetTop > 0) window.scrollTo(0, 0);
  };
  viewport.addEventListener("resize", apply);
  apply();
}
