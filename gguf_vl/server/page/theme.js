/* Light or dark before anything is drawn, so this is no module. Without a choice it is the system's. */
(function () {
  let chosen = null;
  try {
    chosen = JSON.parse(localStorage.getItem("gguf-vl.theme"));
  } catch {
    // nothing is remembered here
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
