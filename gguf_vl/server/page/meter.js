/** How fast the answer comes, and how much of the model's context the chat takes. */

import * as answers from "./answers.js";
import { text } from "./composer.js";
import { byId } from "./dom.js";
import { count, rate, seconds } from "./format.js";
import { tokensOf } from "./pictures.js";
import * as settings from "./settings.js";
import { path } from "./tree.js";

const EVERY_MS = 250;
const NEARLY_FULL = 0.9;
let ticking = 0;

/** About how many tokens a text has: a quarter of its characters, more of Chinese and the like. */
function roughly(words) {
  let wide = 0;
  for (const character of words) if (character > "\u2e7f") wide += 1;
  return Math.ceil((words.length - wide) / 4 + wide * 0.7);
}

/** The tokens of a chat: as the server counted them up to its last answer, and roughly what has come since. */
function taken(chat, run) {
  let tokens = 0;
  let isRough = false;
  for (const message of path(chat)) {
    if (message.usage) {
      tokens = message.usage.total_tokens;
      isRough = false;
      continue;
    }
    const shown = (message.pictures ?? []).reduce((sum, id) => sum + tokensOf(id), 0);
    tokens += message === run?.message ? run.pieces : roughly(message.text) + shown;
    isRough = true;
  }
  const draft = roughly(text()) + chat.draft.reduce((sum, id) => sum + tokensOf(id), 0);
  return { tokens: tokens + draft, isRough: isRough || draft > 0 };
}

/** Show the numbers of a chat, again and again while it is being answered. */
export function show(chat) {
  clearTimeout(ticking);
  const run = answers.running(chat);
  const last = path(chat).findLast((message) => message.role === "assistant");
  showSpeed(run, last);
  showContext(chat, run, last);
  if (run) ticking = setTimeout(() => show(chat), EVERY_MS);
}

function showSpeed(run, last) {
  const speed = run ? run.rate : last?.timings?.decode_tps;
  const first = run ? run.ttft : last?.timings?.ttft_s;
  byId("rate").textContent = speed ? rate(speed) : "";
  byId("first").textContent = first ? `first token ${seconds(first)}` : "";
}

function showContext(chat, run, last) {
  const most = settings.contextOf(run ? settings.setting("model") : last?.model);
  const { tokens, isRough } = taken(chat, run);
  const part = most ? Math.min(1, tokens / most) : 0;
  const meter = byId("context");
  meter.hidden = !tokens && !most;
  meter.classList.toggle("nearly-full", part > NEARLY_FULL);
  byId("context-bar").style.width = `${part * 100}%`;
  const words = `${isRough ? "≈ " : ""}${count(tokens)}${most ? ` of ${count(most)}` : ""} tokens`;
  byId("context-text").textContent = words;
  meter.setAttribute("aria-valuenow", String(Math.round(part * 100)));
  meter.setAttribute("aria-valuetext", `${words} of context`);
}
