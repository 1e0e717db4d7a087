/**
 * The messages of a chat. A question that was edited and an answer that was asked for again stand beside what was there
 * before, so a chat is a tree; what is shown is the way from its root to `chat.leaf`.
 */

import { newId } from "./format.js";

function byId(chat, id) {
  return chat.messages.find((message) => message.id === id);
}

/** The messages that are shown, the first one first. */
export function path(chat) {
  const found = [];
  for (let message = byId(chat, chat.leaf); message; message = byId(chat, message.parent)) found.unshift(message);
  return found;
}

/** Those that stand in a message's place, itself among them, the oldest first. */
export function siblings(chat, message) {
  return chat.messages.filter((other) => other.parent === message.parent && other.role === message.role);
}

/** Add a message behind `parent`, and show it. */
export function add(chat, parent, fields) {
  const message = { id: newId(), parent, at: Date.now(), ...fields };
  chat.messages.push(message);
  chat.leaf = message.id;
  return message;
}

/** Take away a message that nothing follows. */
export function discard(chat, message) {
  chat.messages.splice(chat.messages.indexOf(message), 1);
  if (chat.leaf === message.id) chat.leaf = message.parent;
}

/** Show a message, and the newest that follow it. */
export function turnTo(chat, message) {
  let last = message;
  for (let next = last; next; next = chat.messages.findLast((other) => other.parent === last.id)) last = next;
  chat.leaf = last.id;
}
