/** The columns beside the talk: chats, and the panel of settings and log. Where there is no room they lie over it. */

import { byId } from "./dom.js";
import { forGood } from "./memory.js";

const PANEL = "gguf-vl.panel";
const narrow = matchMedia("(max-width: 860px)");
const medium = matchMedia("(max-width: 1180px)");
const TABS = ["settings", "log"];
let chatsAreOpen = false;
let panel = null;
let opener = null;

const chatsLieOver = () => narrow.matches && chatsAreOpen;
const panelLiesOver = () => medium.matches && panel !== null;

function show() {
  const app = byId("app");
  app.classList.toggle("chats-open", chatsAreOpen);
  app.classList.toggle("panel-open", panel !== null);
  byId("panel").hidden = panel === null;
  byId("scrim").hidden = !chatsLieOver() && !panelLiesOver();
  byId("main").inert = !byId("scrim").hidden;
  byId("sidebar").inert = (narrow.matches && !chatsAreOpen) || panelLiesOver();
  byId("menu").setAttribute("aria-expanded", String(chatsAreOpen));
  for (const name of TABS) {
    const isOpen = panel === name;
    byId(`open-${name}`).setAttribute("aria-expanded", String(isOpen));
    byId(`tab-${name}`).setAttribute("aria-selected", String(isOpen));
    byId(`tab-${name}`).tabIndex = isOpen ? 0 : -1;
    byId(`panel-${name}`).hidden = !isOpen;
  }
}

function openPanel(name) {
  if (panel === null && name) opener = document.activeElement;
  panel = name;
  if (!medium.matches) forGood.set(PANEL, panel);
  show();
  if (name) byId(`tab-${name}`).focus();
  else opener?.focus();
}

function openChats(isOpen) {
  chatsAreOpen = isOpen;
  show();
  byId(isOpen ? "search" : "menu").focus();
}

/** Close what lies over the talk; false where nothing does. */
export function close() {
  if (chatsLieOver()) openChats(false);
  else if (panelLiesOver()) openPanel(null);
  else return false;
  return true;
}

/** Close the chats where they lie over the talk: one was chosen. */
export function chosen() {
  if (!chatsLieOver()) return;
  chatsAreOpen = false;
  show();
}

export function mount() {
  byId("menu").addEventListener("click", () => openChats(!chatsAreOpen));
  byId("close-chats").addEventListener("click", () => openChats(false));
  byId("close-panel").addEventListener("click", () => openPanel(null));
  byId("scrim").addEventListener("click", close);
  for (const name of TABS) {
    byId(`open-${name}`).addEventListener("click", () => openPanel(panel === name ? null : name));
    byId(`tab-${name}`).addEventListener("click", () => openPanel(name));
    byId(`tab-${name}`).addEventListener("keydown", (event) => {
      if (["ArrowLeft", "ArrowRight"].includes(event.key)) openPanel(TABS.find((other) => other !== name));
    });
  }
  narrow.addEventListener("change", show);
  medium.addEventListener("change", show);
  if (!medium.matches && TABS.includes(forGood.get(PANEL))) panel = forGood.get(PANEL);
  show();
}
