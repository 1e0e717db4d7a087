/** Where a question is written: its text, its pictures, and what sends it. */

import * as answers from "./answers.js";
import * as camera from "./camera.js";
import * as chats from "./chats.js";
import { chip } from "./chips.js";
import { byId, isComposing, keepFocus, say } from "./dom.js";
import { note } from "./log.js";
import * as pictures from "./pictures.js";
import { Signal } from "./signal.js";
import * as taskForm from "./task_form.js";
import * as taskMenu from "./task_menu.js";
import * as tasks from "./tasks.js";
import { add, path } from "./tree.js";

/** The text or the pictures have changed. */
export const changed = new Signal();

const NOTICE_MS = 8000;
let chat = null;
let chips = [];
let noticeEnd = 0;

const area = byId("text");

/** Show what was written in a chat and not sent. */
export async function show(next) {
  if (chat !== next || chips.some(({ picture }) => !next.draft.includes(picture.id))) clearChips();
  chat = next;
  area.value = chats.draft(chat);
  showTask();
  fit();
  update();
  for (const picture of await Promise.all(next.draft.map(pictures.get))) if (picture && chat === next) place(picture);
}

/** The text as it stands. */
export const text = () => area.value;

function fit() {
  area.style.height = "auto";
  area.style.height = `${area.scrollHeight + 2}px`;
}

function update() {
  const isRunning = answers.running(chat) !== null;
  const hasTurned = byId("send").hidden !== isRunning;
  byId("send").hidden = isRunning;
  byId("stop").hidden = !isRunning;
  byId("send").disabled = !area.value.trim() && !chat.draft.length && !chat.task;
  if (hasTurned) keepFocus();
  changed.emit();
}

function written() {
  chats.setDraft(chat, area.value);
  fit();
  update();
}

/** Tell something that passes. */
export function notice(words) {
  byId("notice").textContent = words;
  byId("notice").hidden = false;
  clearTimeout(noticeEnd);
  noticeEnd = setTimeout(() => (byId("notice").hidden = true), NOTICE_MS);
}

function clearChips() {
  chips.forEach(({ stop }) => stop());
  chips = [];
  byId("chips").replaceChildren();
  byId("chips").hidden = true;
}

function place(picture) {
  if (!chat.draft.includes(picture.id) || chips.some((each) => each.picture === picture)) return;
  const made = chip(picture, removePicture);
  chips.push({ picture, ...made });
  byId("chips").append(made.element);
  byId("chips").hidden = false;
  picture.changed.on(() => chips.some((each) => each.picture === picture) && changed.emit());
  update();
}

function removePicture(picture) {
  const gone = chips.find((each) => each.picture === picture);
  chips = chips.filter((each) => each !== gone);
  gone.element.remove();
  byId("chips").hidden = chips.length === 0;
  chat.draft = chat.draft.filter((id) => id !== picture.id);
  chats.save(chat);
  picture.remove();
  area.focus();
  say(`${picture.record.name} removed`);
  update();
}

/** Add files to the question, those that can be shown to a model. */
function addFiles(files) {
  const to = chat;
  for (const file of files) {
    if (!pictures.isOne(file)) {
      notice(`${file.name} is no picture, PDF or video.`);
      note("info", `${file.name} was left out: ${file.type || "its type is unknown"}`);
      continue;
    }
    const picture = pictures.add(file);
    to.draft.push(picture.id);
    if (to === chat) place(picture);
  }
  chats.save(to);
}

/** Whether a chat is being answered, which is told then. */
export function isBusy(asked) {
  const isRunning = answers.running(asked) !== null;
  if (isRunning) notice("Still answering. Stop it first, with Esc.");
  return isRunning;
}

function send() {
  const words = area.value.trim();
  if ((!words && !chat.draft.length && !chat.task) || isBusy(chat)) return;
  const failed = chips.find(({ picture }) => picture.state === "failed");
  if (failed) {
    notice(`${failed.picture.record.name} could not be sent. Send it again or remove it.`);
    return;
  }
  const task = chat.task && tasks.chosen(chat.task.name, chat.task.given);
  if (task) {
    const before = path(chat).findLast((message) => message.pictures?.length)?.pictures ?? [];
    const trouble = taskForm.trouble(task, words, pictures.countOf(chat.draft.length ? chat.draft : before));
    if (trouble) {
      notice(trouble);
      taskForm.toLacking();
      return;
    }
  }
  add(chat, chat.leaf, { role: "user", text: words, pictures: chat.draft, task });
  chat.draft = [];
  chat.task = null;
  area.value = "";
  clearChips();
  showTask();
  written();
  answers.start(chat);
}

/** Have a task done with the question that is being written. */
export function use(task) {
  const given = chat.task?.name === task.id ? chat.task.given : {};
  setTask({ name: task.id, given });
  if (!taskForm.toLacking()) area.focus();
}

function setTask(task) {
  chat.task = task;
  chats.save(chat);
  showTask();
  update();
}

function showTask() {
  taskForm.show(chat.task ?? null, {
    change: (name, value) => {
      chat.task.given = { ...chat.task.given, [name]: value };
      chats.saveSoon(chat);
      update();
    },
    remove: () => {
      setTask(null);
      area.focus();
    },
  });
  area.placeholder = chat.task ? "Anything else? It may stay empty" : "Ask about a picture";
}

function mountDrop() {
  let deep = 0; // how many elements the pointer has entered and not left
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  const shown = (isOver) => {
    deep = isOver ? deep : 0;
    byId("drop").hidden = !isOver;
  };
  addEventListener("dragenter", (event) => hasFiles(event) && (deep++, shown(true)));
  addEventListener("dragleave", (event) => hasFiles(event) && --deep <= 0 && shown(false));
  addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    shown(false);
    addFiles([...event.dataTransfer.files]);
  });
}

/** Tie everything to its buttons, keys and events. */
export function mount() {
  area.addEventListener("input", written);
  area.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !isComposing(event)) {
      event.preventDefault();
      send();
    }
  });
  byId("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  byId("stop").addEventListener("click", () => answers.stop(chat));
  byId("attach").addEventListener("click", () => byId("file").click());
  byId("file").addEventListener("change", ({ target }) => {
    addFiles([...target.files]);
    target.value = "";
  });
  byId("camera").addEventListener("click", async () => {
    const picture = await camera.take();
    if (picture) addFiles([picture]);
  });
  addEventListener("paste", (event) => {
    const { files, types } = event.clipboardData;
    const isText = types.includes("text/html") && types.includes("text/plain"); // with a picture of it, as offices copy; a file has its name
    if (!files.length || isText) return;
    event.preventDefault();
    addFiles([...files]);
  });
  addEventListener("resize", fit);
  byId("task").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target.matches("input") && !isComposing(event)) {
      event.preventDefault();
      send();
    }
  });
  taskMenu.mount(use);
  tasks.changed.on(() => chat && showTask());
  mountDrop();
  const refresh = (of) => of === chat && update();
  answers.progressed.on(refresh);
  answers.ended.on(refresh);
}
