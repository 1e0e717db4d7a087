/** Where tasks are picked: the menu beside the question, and a few of them where a chat is empty. */

import { byId, h, icon } from "./dom.js";
import * as tasks from "./tasks.js";

const FIRST = 6; // of them where a chat is empty
const ICONS = { boxes: "frame", points: "frame", table: "table", json: "receipt", markdown: "text", html: "text" };
let items = [];

function taskButton(task, props) {
  const hint = task.is_beyond_model ? `${tasks.purpose(task)}. Not learnt by this model.` : tasks.purpose(task);
  const words = h("span", null, h("span", { class: "name" }, task.id), h("span", { class: "meta" }, hint));
  return h("button", { type: "button", ...props }, icon(ICONS[task.shown] ?? "eye"), words);
}

function open(wanted) {
  byId("tasks-menu").hidden = !wanted;
  byId("tasks").setAttribute("aria-expanded", String(wanted));
  if (wanted) items[0]?.focus();
}

function fill(use) {
  items = tasks.all().map((task) => {
    const pick = () => {
      open(false);
      use(task);
    };
    const kind = task.is_beyond_model ? "beyond" : null;
    return taskButton(task, { role: "menuitem", tabindex: "-1", class: kind, onclick: pick });
  });
  byId("tasks").disabled = items.length === 0;
  byId("tasks-menu").replaceChildren(...items);
  const first = tasks.all().filter(({ is_beyond_model: isBeyond }) => !isBeyond);
  byId("examples").replaceChildren(...first.slice(0, FIRST).map((task) => taskButton(task, { class: "example", onclick: () => use(task) })));
}

/** Tie the menu to its button and keys; `use` is told the task that was picked. */
export function mount(use) {
  const menu = byId("tasks-menu");
  const button = byId("tasks");
  button.addEventListener("click", () => open(menu.hidden));
  menu.addEventListener("keydown", (event) => {
    const at = items.indexOf(document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: items.length - 1 }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      items.at(to % items.length).focus();
    } else if (event.key === "Escape" || event.key === "Tab") {
      event.stopPropagation();
      open(false);
      if (event.key === "Escape") button.focus();
    }
  });
  menu.addEventListener("focusout", (event) => {
    if (!menu.contains(event.relatedTarget) && event.relatedTarget !== button) open(false);
  });
  fill(use);
  tasks.changed.on(() => fill(use));
}
