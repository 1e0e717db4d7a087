/** What this page has done and met: its requests, their timings, its errors. Kept until the page is closed. */

import { h } from "./dom.js";
import { clock } from "./format.js";
import { Signal } from "./signal.js";

const MOST = 500;
const entries = [];
const noted = new Signal();

/**
 * Write a line.
 * @param {"request"|"timing"|"error"|"info"} kind
 * @param {string} text
 */
export function note(kind, text) {
  entries.push({ kind, text, at: new Date() });
  if (entries.length > MOST) entries.shift();
  noted.emit(entries.at(-1));
}

/** Something that a person should see at once, not in the log alone; tells it. */
export const warned = new Signal();

export function warn(text) {
  note("error", text);
  warned.emit(text);
}

/** Write down whatever goes wrong and nobody catches. */
export function watchErrors() {
  addEventListener("error", (event) => note("error", event.message || "something failed to load"));
  addEventListener("unhandledrejection", (event) => note("error", String(event.reason?.message ?? event.reason)));
  document.addEventListener("securitypolicyviolation", (event) => {
    note("error", `kept out by the page's policy: ${event.violatedDirective} ${event.blockedURI}`);
  });
}

/** All lines as text. */
export function asText() {
  return entries.map(({ kind, text, at }) => `${at.toISOString()} ${kind} ${text}`).join("\n");
}

export function clear(list) {
  entries.length = 0;
  list.replaceChildren();
}

/** Show the lines in a list, those to come too. */
export function mount(list) {
  const show = ({ kind, text, at }) => {
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
    list.append(h("li", { class: `log-${kind}` }, h("time", null, clock(at)), h("span", null, text)));
    while (list.childElementCount > MOST) list.firstElementChild.remove();
    if (atEnd) list.scrollTop = list.scrollHeight;
  };
  entries.forEach(show);
  noted.on(show);
}
