/** The switch between light and dark. */

import { forGood } from "./memory.js";

const KEPT = "gguf-vl.theme"; // theme.js reads it before anything is drawn
const system = matchMedia("(prefers-color-scheme: dark)");
const root = document.documentElement;

const ofSystem = () => (system.matches ? "dark" : "light");
const current = () => root.dataset.theme ?? ofSystem();
const otherThan = (theme) => (theme === "dark" ? "light" : "dark");

/** Make a button the switch. Going back to what the system has is no choice any more. */
export function mount(button) {
  const show = () => {
    const other = otherThan(current());
    button.setAttribute("aria-label", `Use ${other} colours`);
    button.title = `Use ${other} colours`;
    button.querySelector("use").setAttribute("href", current() === "dark" ? "#i-sun" : "#i-moon");
  };
  button.addEventListener("click", () => {
    const wanted = otherThan(current());
    const isSystem = wanted === ofSystem();
    if (isSystem) delete root.dataset.theme;
    else root.dataset.theme = wanted;
    forGood.set(KEPT, isSystem ? null : wanted);
    show();
  });
  system.addEventListener("change", show);
  show();
}
