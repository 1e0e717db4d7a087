/** The chat that is shown: its messages in order, and the place where one is in it. */

import * as answers from "./answers.js";
import { byId, keepFocus } from "./dom.js";
import { Answer, Question } from "./messages.js";
import { path } from "./tree.js";

const NEAR = 60; // pixels from the end within which one stays at the end
let chat = null;
let views = new Map();
let atEnd = true;
let lastTop = 0;
let drawing = false;
const dirty = new Set();

/** Show a chat, at its end. */
export function show(next) {
  chat = next;
  views = new Map();
  byId("messages").replaceChildren();
  arrange();
  toEnd();
}

/** Show the messages as they are now. */
export function arrange(focused = null) {
  const list = byId("messages");
  const shown = path(chat);
  const next = new Map(shown.map((message) => [message.id, viewOf(message)]));
  for (const [id, view] of views) if (next.get(id) !== view) view.element.remove();
  views = next;
  shown.forEach((message, place) => {
    const { element } = views.get(message.id);
    if (list.children[place] !== element) list.insertBefore(element, list.children[place] ?? null);
    views.get(message.id).update();
  });
  byId("empty").hidden = shown.length > 0;
  views.get(focused?.id)?.turns.querySelector("button:enabled")?.focus();
  keepFocus();
  follow();
}

function viewOf(message) {
  const view = views.get(message.id);
  if (view?.message === message) return view;
  return new (message.role === "user" ? Question : Answer)(chat, message, arrange);
}

function progressed(of, message) {
  if (of !== chat) return;
  if (!views.has(message.id)) {
    arrange();
    toEnd();
    return;
  }
  dirty.add(message.id);
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    for (const id of dirty) views.get(id)?.update();
    dirty.clear();
    follow();
  });
}

function toEnd() {
  atEnd = true;
  follow();
  keepFocus();
}

function follow() {
  const scroller = byId("talk");
  if (atEnd) scroller.scrollTop = scroller.scrollHeight;
  byId("to-end").hidden = atEnd;
}

/** Begin to show what happens. */
export function mount() {
  const scroller = byId("talk");
  scroller.addEventListener(
    "scroll",
    () => {
      const { scrollTop, scrollHeight, clientHeight } = scroller;
      const isNear = scrollHeight - scrollTop - clientHeight < NEAR;
      atEnd = isNear || (atEnd && scrollTop >= lastTop); // what grew since this scroll began is no reason to leave the end
      lastTop = scrollTop;
      byId("to-end").hidden = atEnd;
    },
    { passive: true },
  );
  const sizes = new ResizeObserver(follow);
  sizes.observe(byId("messages"));
  sizes.observe(scroller); // smaller where the question grows or a keyboard opens
  byId("to-end").addEventListener("click", toEnd);
  answers.progressed.on(progressed);
  answers.ended.on((of) => of === chat && arrange());
}
