// The theme, before anything is drawn, and links that leave the frame.
"use strict";
(() => {
  const root = document.documentElement;

  // Airflow shows the app in a frame of the same origin, and keeps its theme in the class of its own html element.
  const airflow = () => {
    try {
      return window.parent === window ? null : window.parent.document;
    } catch {
      return null;
    }
  };
  const system = window.matchMedia("(prefers-color-scheme: dark)");

  const theme = () => {
    const classes = airflow()?.documentElement.classList;
    if (classes?.contains("dark")) return "dark";
    if (classes?.contains("light")) return "light";
    const stored = window.localStorage.getItem("theme");
    if (stored === "dark" || stored === "light") return stored;
    return system.matches ? "dark" : "light";
  };

  const apply = () => {
    const wanted = theme();
    if (root.classList.contains(wanted)) return;
    root.classList.remove("light", "dark");
    root.classList.add(wanted);
    document.dispatchEvent(new Event("theme"));
  };

  root.classList.add("scripted");
  apply();
  system.addEventListener("change", apply);
  window.addEventListener("storage", apply);
  const outer = airflow();
  if (outer) new MutationObserver(apply).observe(outer.documentElement, { attributeFilter: ["class"] });

  // The frame's sandbox forbids target=_top: the link is followed from Airflow's own document.
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[target=_top]");
    const page = airflow();
    if (!link || !page || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const copy = page.createElement("a");
    copy.href = link.href;
    page.body.append(copy);
    copy.click();
    copy.remove();
  });
})();
