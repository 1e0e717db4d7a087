/** The list of chats: opened, found, renamed and deleted here. */

import * as answers from "./answers.js";
import * as chats from "./chats.js";
import { ask } from "./dialogs.js";
import { byId, h, iconButton, keepFocus, say } from "./dom.js";
import { day } from "./format.js";
import * as pictures from "./pictures.js";
import { Signal } from "./signal.js";

/** A chat was deleted; tells it. */
export const deleted = new Signal();

let rows = new Map();
let current = null;

/** Show which chat is open. */
export function mark(chat) {
  current = chat.id;
  update();
}

function row(chat) {
  const title = h("span", { class: "name" });
  const time = h("time", { class: "meta" });
  const link = h("a", { href: `#${chat.id}` }, title, time);
  const rename = iconButton("edit", "Rename", () => beginRename(chat, element, link));
  const remove = iconButton("trash", "Delete", () => removeChat(chat));
  const element = h("li", null, link, rename, remove);
  link.addEventListener("keydown", (event) => {
    if (event.key === "F2") beginRename(chat, element, link);
    if (event.key === "Delete") removeChat(chat);
  });
  const show = () => {
    const name = chats.titleOf(chat);
    if (title.textContent !== name) {
      title.textContent = name;
      link.title = name;
      rename.setAttribute("aria-label", `Rename ${name}`);
      remove.setAttribute("aria-label", `Delete ${name}`);
    }
    time.textContent = answers.running(chat) ? "answering…" : day(chat.updated);
    if (chat.id === current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  };
  return { element, show };
}

function beginRename(chat, element, link) {
  const input = h("input", { type: "text", value: chats.titleOf(chat), "aria-label": "Title of the chat", maxlength: "120" });
  let isOver = false;
  const end = async (isKept) => {
    if (isOver) return; // taking the field away blurs it
    isOver = true;
    const title = input.value;
    input.replaceWith(link);
    link.focus();
    if (isKept && title.trim() !== chats.titleOf(chat)) await chats.rename(chat, title);
  };
  input.addEventListener("keydown", (event) => {
    if (event.key === "Escape") event.stopPropagation();
    if (event.key === "Enter" || event.key === "Escape") end(event.key === "Enter");
  });
  input.addEventListener("blur", () => end(true));
  link.replaceWith(input);
  input.select();
}

async function removeChat(chat) {
  const title = chats.titleOf(chat);
  const text = "Its questions, answers and pictures are removed from this browser.";
  if (!(await ask({ title: `Delete “${title}”?`, text, yes: "Delete" }))) return;
  answers.stop(chat);
  const orphans = await chats.remove(chat);
  deleted.emit(chat);
  keepFocus();
  say(`${title} deleted`);
  for (const id of orphans) (await pictures.get(id))?.remove();
}

function update() {
  const shown = chats.list(byId("search").value);
  const list = byId("chats");
  const next = new Map(shown.map((chat) => [chat.id, rows.get(chat.id) ?? row(chat)]));
  for (const [id, { element }] of rows) if (!next.has(id)) element.remove();
  rows = next;
  shown.forEach((chat, place) => {
    const { element, show } = rows.get(chat.id);
    if (list.children[place] !== element) list.insertBefore(element, list.children[place] ?? null);
    show();
  });
  byId("no-chats").hidden = shown.length > 0;
  byId("no-chats").textContent = byId("search").value ? "No chat has these words." : "Chats are kept in this browser alone.";
}

/** Begin to show the chats as they change. */
export function mount() {
  chats.changed.on(update);
  answers.ended.on(update);
  byId("search").addEventListener("input", update);
}
