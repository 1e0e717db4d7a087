/** The page, put together: which chat is shown, and what the whole page listens to. */

import * as answers from "./answers.js";
import * as chats from "./chats.js";
import { copyButton } from "./clipboard.js";
import * as composer from "./composer.js";
import { byId, fillIcons, say } from "./dom.js";
import * as drawers from "./drawers.js";
import * as log from "./log.js";
import * as meter from "./meter.js";
import { keyGiven } from "./server.js";
import * as settings from "./settings.js";
import * as sidebar from "./sidebar.js";
import * as talk from "./talk.js";
import * as tasks from "./tasks.js";
import * as themes from "./themes.js";

const CHAT = /^#[0-9a-f]{24}$/;
const MOST_SAID = 1500; // characters of an answer that are read out; the rest is there to be read
let current = null;

function open(chat) {
  current = chat;
  const address = `#${chat.id}`;
  if (!CHAT.test(location.hash)) history.replaceState(null, "", address);
  else if (location.hash !== address) history.pushState(null, "", address);
  composer.show(chat);
  talk.show(chat);
  sidebar.mark(chat);
  meter.show(chat);
  showTitle();
  drawers.chosen();
}

/** Show the chat that the address names; without one that was begun and not sent, else a new one. */
function route() {
  const id = CHAT.test(location.hash) ? location.hash.slice(1) : null;
  if (id && id === current?.id) return;
  open(id ? (chats.get(id) ?? chats.make(id)) : (chats.begun() ?? chats.make()));
}

/** Show what another tab did to the chat. */
function showChange() {
  if (chats.get(current.id)) {
    composer.show(current);
    talk.arrange();
    return;
  }
  answers.stop(current);
  open(chats.make());
}

function newChat() {
  if (current.messages.length || current.draft.length || composer.text().trim()) open(chats.make());
  drawers.chosen();
  byId("text").focus();
}

function showTitle() {
  const title = current.messages.length ? chats.titleOf(current) : "New chat";
  byId("title").textContent = title;
  document.title = `${title} · gguf-vl`;
}

function showModel() {
  const model = settings.model();
  byId("model-name").textContent = model?.id ?? "";
  byId("about-pocket").hidden = model?.id !== "pocket";
}

function told({ state, text, error, boxes, points = [] }) {
  if (state === "failed") return `No answer: ${error}`;
  if (state === "stopped") return "Stopped";
  const located = [...boxes, ...points].map(({ label }) => label).join(", ");
  if (boxes.length) return `Answer with ${boxes.length === 1 ? "a box" : `${boxes.length} boxes`}: ${located}`;
  if (points.length) return `Answer with ${points.length === 1 ? "a point" : `${points.length} points`}: ${located}`;
  return `Answer: ${text.slice(0, MOST_SAID)}`;
}

function listen() {
  answers.progressed.on((chat) => chat === current && meter.show(chat));
  answers.ended.on((chat, message) => {
    if (chat === current) meter.show(chat);
    say(told(message));
    const isNew = message.state === "done" && settings.contextOf(message.model) === null;
    if (isNew) settings.refresh(); // its context is known, now that it is loaded
  });
  chats.changed.on((id) => id === current?.id && showTitle());
  chats.changedElsewhere.on((id) => id === current?.id && showChange());
  keyGiven.on(() => settings.model() ?? settings.refresh());
  composer.changed.on(() => current && meter.show(current));
  settings.changed.on(() => {
    showModel();
    if (settings.model()) tasks.refresh();
    if (current) meter.show(current);
  });
  sidebar.deleted.on((chat) => chat === current && open(chats.make()));
  byId("new-chat").addEventListener("click", newChat);
  byId("skip").addEventListener("click", (event) => {
    event.preventDefault();
    byId("text").focus();
  });
  addEventListener("hashchange", route);
  addEventListener("popstate", route);
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || event.defaultPrevented || document.querySelector("dialog[open]")) return;
    if (!drawers.close() && answers.running(current)) answers.stop(current);
  });
}

log.watchErrors();
fillIcons();
log.mount(byId("log"));
byId("log-buttons").append(copyButton("Copy the log", log.asText));
byId("log-clear").addEventListener("click", () => log.clear(byId("log")));
themes.mount(byId("theme"));
drawers.mount();
settings.mount();
sidebar.mount();
talk.mount();
composer.mount();
log.warned.on(composer.notice);
await chats.load();
listen();
route();
byId("text").focus();
const trouble = await settings.refresh();
if (trouble) composer.notice(trouble);
