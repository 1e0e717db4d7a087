/** Questions and answers as they are shown. */

import * as answers from "./answers.js";
import { located } from "./boxes.js";
import * as chats from "./chats.js";
import { about, thumbnail } from "./chips.js";
import { copyButton } from "./clipboard.js";
import { isBusy } from "./composer.js";
import { decision } from "./dialogs.js";
import { h, icon, iconButton, isComposing } from "./dom.js";
import { count, counted, rate, seconds } from "./format.js";
import { Markdown } from "./markdown.js";
import * as pictures from "./pictures.js";
import { asMarkdown, csvButton, label } from "./task_result.js";
import { add, siblings, turnTo } from "./tree.js";

/** What both have: where they stand among those that were there before them. */
class MessageView {
  /** `rearrange` is called when other messages are to be shown. */
  constructor(chat, message, rearrange) {
    this.chat = chat;
    this.message = message;
    this.rearrange = rearrange;
    this.turns = h("span", { class: "turns", role: "group" });
  }

  updateTurns(what) {
    const all = siblings(this.chat, this.message);
    const place = all.indexOf(this.message);
    this.turns.hidden = all.length < 2;
    if (this.turns.hidden || this.turns.dataset.at === `${place}/${all.length}`) return;
    this.turns.dataset.at = `${place}/${all.length}`;
    const to = (next) => () => {
      turnTo(this.chat, next);
      chats.save(this.chat);
      this.rearrange(next);
    };
    this.turns.replaceChildren(
      iconButton("left", `Earlier ${what}`, to(all[place - 1]), { disabled: place === 0 }),
      h("span", { "aria-label": `${what} ${place + 1} of ${all.length}` }, `${place + 1}/${all.length}`),
      iconButton("right", `Later ${what}`, to(all[place + 1]), { disabled: place === all.length - 1 }),
    );
  }
}

/** What a person asked. */
export class Question extends MessageView {
  constructor(chat, message, rearrange) {
    super(chat, message, rearrange);
    this.text = h("div", { class: "text" }, message.text);
    this.edit = iconButton("edit", "Edit and ask again", () => this.#edit());
    const shown = h("div", { class: "shown" }, message.pictures.map(shownPicture));
    this.foot = h("div", { class: "foot" }, this.turns, this.edit, copyButton("Copy the question", () => message.text));
    const task = message.task && label(message.task);
    this.element = h("article", { class: "message question", "aria-label": "You" }, message.pictures.length > 0 && shown, task, this.text, this.foot);
    this.text.hidden = !message.text;
  }

  update() {
    this.edit.disabled = answers.running(this.chat) !== null;
    this.updateTurns("version of the question");
  }

  #edit() {
    const area = h("textarea", { "aria-label": "The question", rows: "3" });
    area.value = this.message.text;
    const { pictures: shown, task } = this.message;
    const given = Object.entries(task?.given ?? {}).map(([name, value]) => [name, h("input", { value, "aria-label": name })]);
    const close = () => {
      form.replaceWith(this.text);
      this.foot.hidden = false;
      this.edit.focus();
    };
    const form = h("form", { class: "editing" }, given.map((each) => h("label", null, ...each)), area, decision("Ask again", close));
    const submit = (event) => {
      event.preventDefault();
      const text = area.value.trim();
      if (!text && !shown.length && !task) return;
      if (isBusy(this.chat)) return;
      close();
      const now = task && { ...task, given: Object.fromEntries(given.map(([name, input]) => [name, input.value])) };
      add(this.chat, this.message.parent, { role: "user", text, pictures: shown, task: now });
      answers.start(this.chat);
    };
    form.addEventListener("submit", submit);
    area.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        event.stopPropagation();
        close();
      }
      if (event.key === "Enter" && !event.shiftKey && !isComposing(event)) submit(event);
    });
    this.text.hidden = !this.message.text;
    this.text.replaceWith(form);
    this.foot.hidden = true;
    area.focus();
  }
}

function shownPicture(id) {
  const button = h("button", { type: "button", class: "shown-picture", disabled: true, "aria-label": "A picture" });
  pictures.get(id).then((picture) => {
    if (!picture) {
      button.append(h("span", { class: "unshown" }, icon("warn"), "no longer kept"));
      return;
    }
    const caption = h("span", { class: "meta" });
    const show = () => {
      const { name, object = "picture" } = picture.record;
      button.title = caption.textContent = `${name} · ${about(picture)}`;
      caption.hidden = object === "picture";
    };
    button.disabled = false;
    button.setAttribute("aria-label", `Show ${picture.record.name} larger`);
    button.append(thumbnail(picture), caption);
    picture.changed.on(show);
    show();
    button.addEventListener("click", () => enlarge(picture));
  });
  return button;
}

function enlarge(picture) {
  const close = iconButton("close", "Close", () => dialog.close());
  const image = h("img", { src: picture.url, alt: picture.record.name });
  const caption = h("p", { class: "meta" }, `${picture.record.name} · ${about(picture)}`);
  const dialog = h("dialog", { class: "enlarged", "aria-label": picture.record.name }, close, image, caption);
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

const STAGES = {
  load: () => "Loading the model",
  queue: ({ done, total }) => `Waiting: place ${done} of ${total}`,
  encode: ({ done, total }) => `Looking at the picture: ${count(done)} of ${count(total)} image tokens`,
  prefill: ({ done, total }) => `Reading: ${count(done)} of ${count(total)} tokens`,
};

/** What a model answered, or is answering. */
export class Answer extends MessageView {
  #locatedOf = "";

  constructor(chat, message, rearrange) {
    super(chat, message, rearrange);
    const body = h("div", { class: "markdown" });
    const thoughts = h("div", { class: "markdown" });
    this.markdown = new Markdown(body);
    this.thoughts = new Markdown(thoughts);
    this.written = h("div", { class: "written" }, body);
    this.thinkingTitle = h("summary");
    this.thinking = h("details", { class: "thinking", hidden: true }, this.thinkingTitle, thoughts);
    this.located = h("div", { class: "located-in" });
    this.bar = h("progress", { max: "1" });
    this.stage = h("span");
    this.progress = h("div", { class: "stage-of-work" }, this.stage, this.bar);
    this.failed = h("div", { class: "failed", hidden: true });
    this.meta = h("span", { class: "meta" });
    this.again = iconButton("retry", "Answer again", () => answers.again(chat, message));
    this.foot = h("div", { class: "foot" }, this.turns, copyButton("Copy the answer", () => message.text), this.again, this.meta);
    this.element = h(
      "article",
      { class: "message answer", "aria-label": "Answer" },
      this.thinking,
      this.written,
      this.located,
      this.progress,
      this.failed,
      this.foot,
    );
  }

  update() {
    const { message } = this;
    const run = answers.running(this.chat);
    const isRunning = run?.message === message;
    this.element.setAttribute("aria-busy", String(isRunning));
    this.markdown.show(asMarkdown(message));
    this.#updateThinking(isRunning);
    this.#updateProgress(isRunning ? run : null);
    this.#updateBoxes(isRunning);
    this.foot.hidden = isRunning;
    this.again.disabled = run !== null;
    if (!isRunning) this.#updateEnd();
  }

  #updateThinking(isRunning) {
    const { thinking, text } = this.message;
    this.thinking.hidden = !thinking;
    this.thinkingTitle.textContent = isRunning && !text ? "Thinking…" : "What it thought first";
    this.thoughts.show(thinking);
  }

  #updateProgress(run) {
    this.progress.hidden = !run || run.pieces > 0;
    if (this.progress.hidden) return;
    const at = run.progress;
    this.stage.textContent = at ? STAGES[at.stage](at) : "Asking…";
    this.bar.setAttribute("aria-label", this.stage.textContent);
    if (at && at.total > 0 && at.stage !== "queue") this.bar.value = at.done / at.total;
    else this.bar.removeAttribute("value");
  }

  #updateBoxes(isRunning) {
    const { boxes, points = [], picture, size, text } = this.message;
    const places = JSON.stringify([boxes, points]);
    if (isRunning || !(boxes.length + points.length) || this.#locatedOf === places) return;
    this.#locatedOf = places; // another tab's save brings them anew
    if (!picture) return; // it was left out
    pictures.get(picture).then((found) => {
      if (!found || found.record.object === "video") return; // frames of another question may be others
      if (isData(text) && !this.written.querySelector(".folded")) this.#foldWritten();
      const { previews, name } = found.record;
      const [width, height] = size ?? [found.record.width, found.record.height];
      this.located.replaceChildren(located({ url: previews?.at(-1) ?? found.url, width, height, name }, boxes, points));
    });
  }

  /** Boxes are easier looked at than read. */
  #foldWritten() {
    const folded = h("details", { class: "folded" }, h("summary", null, "As the model wrote it"), ...this.written.childNodes);
    this.written.append(folded);
    this.written.before(this.located);
  }

  #updateEnd() {
    const { message } = this;
    const state = message.state === "streaming" ? "cut" : message.state; // the page was closed, or another tab is at it
    this.failed.hidden = state !== "failed" && state !== "cut";
    if (!this.failed.hidden && !this.failed.childElementCount) {
      const text = message.error ?? "This answer was not finished here.";
      const retry = h("button", { type: "button", class: "quiet", onclick: () => this.again.click() }, icon("retry"), "Try again");
      this.failed.append(icon("warn"), h("span", null, text), retry);
    }
    this.meta.textContent = told(message, state).filter(Boolean).join(" · ");
    const asCsv = this.foot.querySelector(".as-csv") ? null : csvButton(message);
    if (asCsv) this.again.before(asCsv);
    this.updateTurns("answer");
  }
}

function isData(text) {
  const bare = text.trim();
  return /^(?:```|\[|\{)/.test(bare) && /(?:```|\]|\})$/.test(bare.slice(-3));
}

function told({ model, usage, timings, finish }, state) {
  return [
    state === "stopped" && "stopped",
    finish === "length" && "cut off at the most tokens that are allowed, or for repeating itself",
    model,
    usage && counted(usage.completion_tokens, "token"),
    timings?.decode_tps && rate(timings.decode_tps),
    timings && `first token after ${seconds(timings.ttft_s)}`,
  ];
}
