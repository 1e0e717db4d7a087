/** The chats of this browser. */

import { newId } from "./format.js";
import { forGood } from "./memory.js";
import * as pictures from "./pictures.js";
import { Shelf } from "./shelf.js";
import { Signal } from "./signal.js";
import { told } from "./tasks.js";

/** A chat was added, renamed, removed, or has grown; tells its id. Also when another tab did it. */
export const changed = new Signal();
/** Another tab has changed a chat; tells its id. */
export const changedElsewhere = new Signal();

const TITLE = 60;
const SAVE_MS = 700;
const DRAFT = "gguf-vl.draft.";
const shelf = new Shelf("chats");
const chats = new Map();
const waiting = new Map();
let persisting = null;
const others = "BroadcastChannel" in window ? new BroadcastChannel("gguf-vl") : null;

/** Read what is kept. */
export async function load() {
  for (const chat of await shelf.all()) chats.set(chat.id, chat);
  for (const name of forGood.names(DRAFT)) get(name.slice(DRAFT.length)) ?? make(name.slice(DRAFT.length));
  others?.addEventListener("message", ({ data }) => reread(data));
  addEventListener("pagehide", () => [...waiting.keys()].forEach((id) => save(chats.get(id))));
}

/** The message of a chat that this tab is writing now, if it is; set by who does it. */
export const inUse = { here: () => null };

async function reread(id) {
  const found = await shelf.get(id);
  const chat = chats.get(id);
  if (!found) chats.delete(id);
  else if (!chat) chats.set(id, found);
  else join(chat, found);
  changed.emit(id);
  changedElsewhere.emit(id);
}

/** Take over what another tab has kept of a chat, and keep again what it did not know. */
function join(chat, { messages, leaf, ...more }) {
  const writing = inUse.here(chat.id);
  const theirs = new Map(messages.map((message) => [message.id, message]));
  // a tab leaves out what it has not seen, and what came to nothing and was tried again
  const kept = chat.messages.filter((message) => theirs.has(message.id) || message === writing || !cameToNothing(chat, message));
  for (const message of kept) {
    const other = theirs.get(message.id);
    const isOlder = message.state !== "streaming" && other?.state === "streaming";
    if (!other || isOlder) saveSoon(chat);
    else if (message !== writing) Object.assign(message, other); // the same object: it is shown
    theirs.delete(message.id);
  }
  Object.assign(chat, more, { messages: [...kept, ...theirs.values()], leaf: writing ? chat.leaf : leaf });
}

/** Whether a message is an answer of which there is nothing to be read, and that nothing follows. */
export function cameToNothing(chat, { id, role, state, text, thinking }) {
  if (role === "user" || state === "done" || text || thinking) return false;
  return !chat.messages.some(({ parent }) => parent === id);
}

/** A new chat. It is kept from its first message or picture on. */
export function make(id = newId()) {
  const chat = { id, title: "", created: Date.now(), updated: Date.now(), leaf: null, messages: [], draft: [] };
  chats.set(id, chat);
  return chat;
}

export const get = (id) => chats.get(id) ?? null;

/** The chats with a message or a draft that hold all words of `search`, the last used first. */
export function list(search = "") {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  return [...chats.values()]
    .filter((chat) => (chat.messages.length || hasDraft(chat)) && words.every((word) => textOf(chat).includes(word)))
    .sort((a, b) => b.updated - a.updated);
}

function textOf(chat) {
  return [titleOf(chat), ...chat.messages.map(wordsOf)].join("\n").toLowerCase();
}

const wordsOf = ({ role, task, text }) => (task && role === "user" ? `${told(task)} ${text}` : text);

/** What a chat is called: what it was named, or how it begins or would begin. */
export function titleOf(chat) {
  if (chat.title) return chat.title;
  const first = chat.messages.find((message) => message.role === "user");
  const text = (first ? wordsOf(first) : draft(chat)).replace(/\s+/g, " ").trim();
  if (text) return text.length > TITLE ? `${text.slice(0, TITLE).trimEnd()}…` : text;
  const shown = first?.pictures ?? chat.draft;
  return shown.map((id) => nameOf(chat, id)).filter(Boolean).join(", ") || (shown.length ? "A picture" : "New chat");
}

/** What a picture is called. Where it is not known yet it is looked up, and the chat has changed then. */
function nameOf(chat, id) {
  const name = pictures.nameOf(id);
  if (!name) pictures.get(id).then((found) => found && changed.emit(chat.id));
  return name;
}

/** Keep a chat as it is now. */
export async function save(chat) {
  clearTimeout(waiting.get(chat.id));
  waiting.delete(chat.id);
  if (!chats.has(chat.id)) return;
  persisting ??= navigator.storage?.persist?.(); // or the browser may clear it all where the disk is full
  if (await shelf.put(chat.id, chat)) others?.postMessage(chat.id);
  changed.emit(chat.id);
}

/** Keep a chat that is changing, not at every change. */
export function saveSoon(chat) {
  if (!waiting.has(chat.id)) waiting.set(chat.id, setTimeout(() => save(chat), SAVE_MS));
}

/** Say that somebody wrote in a chat. */
export function touch(chat) {
  chat.updated = Date.now();
  return save(chat);
}

export async function rename(chat, title) {
  chat.title = title.trim();
  await save(chat);
}

/** Remove a chat; the ids of pictures that no other chat has. */
export async function remove(chat) {
  chats.delete(chat.id);
  setDraft(chat, "");
  await shelf.delete(chat.id);
  others?.postMessage(chat.id);
  changed.emit(chat.id);
  const elsewhere = new Set([...chats.values()].flatMap(picturesOf));
  return picturesOf(chat).filter((id) => !elsewhere.has(id));
}

function picturesOf(chat) {
  return [...chat.draft, ...chat.messages.flatMap((message) => message.pictures ?? [])];
}

/** The text that was typed into a chat and not sent. It is kept with every key, in a store that does not wait. */
export function draft(chat) {
  return forGood.get(DRAFT + chat.id) ?? "";
}

export function setDraft(chat, text) {
  forGood.set(DRAFT + chat.id, text || null);
}

const hasDraft = (chat) => chat.draft.length > 0 || Boolean(chat.task) || draft(chat).trim() !== "";

/** The last chat that was begun and never sent, if there is one. */
export function begun() {
  return list().find((chat) => !chat.messages.length) ?? null;
}
