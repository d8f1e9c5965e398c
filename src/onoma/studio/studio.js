// The look follows the system until it is switched; arrow keys walk lists; "/" goes to the search.
window.onoma = (function () {
  "use strict";
  const key = "onoma-theme", root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  function kept() {
    try { return localStorage.getItem(key); } catch { return null; }
  }
  function theme() {
    const dark = kept() ? kept() === "dark" : system.matches;
    root.dataset.theme = dark ? "dark" : "light";
    if (window.Quasar && document.body && document.body.dataset.ready) Quasar.Dark.set(dark);
  }
  function flip() {
    const next = root.dataset.theme === "dark" ? "light" : "dark";
    try { localStorage.setItem(key, next); } catch { /* private windows keep nothing */ }
    theme();
  }
  // Puts markup of our own into a box and runs the scripts in it, which innerHTML does not.
  async function load(box, address) {
    try {
      const answer = await fetch(address);
      if (!answer.ok) throw new Error(answer.statusText);
      box.innerHTML = await answer.text();
      box.querySelectorAll("script:not([type])").forEach((old) => {
        const script = document.createElement("script");
        script.textContent = old.textContent;
        old.replaceWith(script);
      });
    } catch (error) {
      box.textContent = "The map could not be loaded.";
    }
  }
  system.addEventListener("change", theme);
  document.addEventListener("keydown", (event) => {
    const from = event.target;
    if (event.key === "/" && !from.closest("input,textarea")) {
      const search = document.querySelector("#page input");
      if (search) { search.focus(); event.preventDefault(); }
      return;
    }
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const list = from.closest(".rows");
    if (list) {
      const all = [...list.querySelectorAll("button.pick")];
      const at = all.indexOf(from.closest("li").querySelector("button.pick"));
      const next = all[at + step];
      if (next) next.focus();
      else if (step < 0) list.parentElement.querySelector("input")?.focus();
      event.preventDefault();
    } else if (step > 0 && from.matches("input")) {
      const first = from.closest(".finder")?.querySelector(".rows button.pick");
      if (first) { first.focus(); event.preventDefault(); }
    }
  });
  theme();
  return { theme: () => { document.body.dataset.ready = "yes"; theme(); }, flip, load };
})();
