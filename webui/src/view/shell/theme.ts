import { effect } from "@preact/signals";
import type { Preferences } from "../../store/preference";

/** Colours the page and what the browser draws around it, as chosen or as the system is, and sizes its text. */
export function followTheme({ theme, textSize }: Preferences): void {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const apply = (chosen = theme.peek()): void => {
    const isDark = chosen === "dark" || (chosen === "system" && system.matches);
    document.documentElement.dataset["theme"] = isDark ? "dark" : "light";
    const colour = getComputedStyle(document.documentElement).getPropertyValue("--surface").trim();
    document.querySelector('meta[name="theme-color"]')?.setAttribute("content", colour);
  };
  system.addEventListener("change", () => apply());
  effect(() => apply(theme.value));
  effect(() => {
    document.documentElement.style.fontSize = `${textSize.value}%`;
  });
}
