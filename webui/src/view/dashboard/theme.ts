import { useEffect, useState } from "preact/hooks";

/** The name of the present theme, which a canvas has to be drawn anew for. */
export function useTheme(): string {
  const [theme, setTheme] = useState(now);
  useEffect(() => {
    const observer = new MutationObserver(() => setTheme(now()));
    observer.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    return () => observer.disconnect();
  }, []);
  return theme;
}

function now(): string {
  return document.documentElement.dataset["theme"] ?? "light";
}
