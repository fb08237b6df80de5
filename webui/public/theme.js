// Before anything is painted: the theme and the text size that were chosen, so that no page flashes in other colours.
(function () {
  function kept(name) {
    try {
      return JSON.parse(localStorage.getItem(name));
    } catch {
      return null;
    }
  }
  var theme = kept("theme");
  var isDark = theme === "dark" || (theme !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = isDark ? "dark" : "light";
  var size = kept("text-size");
  if (size > 0) document.documentElement.style.fontSize = size + "%";
})();
