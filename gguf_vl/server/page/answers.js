/** Answers on their way: one for a chat at a time, in as many chats as there are. They go on when another chat is shown. */

import * as chats from "./chats.js";
import { counted, rate, seconds } from "./format.js";
import { note, warn } from "./log.js";
import * as pictures from "./pictures.js";
import { Failure } from "./server.js";
import * as settings from "./settings.js";
import { Signal } from "./signal.js";
import { complete } from "./stream.js";
import * as tasks from "./tasks.js";
import { add, discard, path } from "./tree.js";

/** An answer has begun, grown, or ended; tells the chat and the message. */
export const progressed = new Signal();
/** An answer has ended, however it did; tells the chat and the message. */
export const ended = new Signal();

const CUT_OFF = "The answer was cut off, so it is no whole JSON: what came is only a part. Raise the most tokens of an answer, or show less at once.";
const runs = new Map();
chats.inUse.here = (id) => runs.get(id)?.message;

/** The answer that a chat is getting: its message, the last `progress`, pieces so far; null for none. */
export const running = (chat) => runs.get(chat.id) ?? null;

class Run {
  progress = null;
  pieces = 0;
  firstAt = 0;
  began = performance.now();
  stopping = new AbortController();

  constructor(chat, message) {
    this.chat = chat;
    this.message = message;
  }

  /** Seconds until the first token, null before it. */
  get ttft() {
    return this.firstAt ? (this.firstAt - this.began) / 1000 : null;
  }

  /** Tokens per second since the first, null before the second. What comes in one piece is nearly always one token. */
  get rate() {
    const passed = performance.now() - this.firstAt;
    return this.pieces > 1 && passed > 0 ? ((this.pieces - 1) * 1000) / passed : null;
  }

  take(event) {
    const { message } = this;
    switch (event.kind) {
      case "begun":
        message.model = event.model;
        break;
      case "progress":
        this.progress = event;
        break;
      case "thinking":
      case "text":
        message[event.kind] += event.text;
        this.firstAt ||= performance.now();
        this.pieces += 1;
        break;
      case "boxes":
        message.boxes = event.boxes;
        message.points = event.points;
        message.size = event.size;
        break;
      case "end":
        message.finish = event.reason;
        message.timings = event.timings;
        Object.assign(message, { fields: event.fields, rows: event.rows });
        break;
      case "usage":
        message.usage = event.usage;
    }
  }
}

/** Have the last question of a chat answered. What goes wrong stands in the message. */
export async function start(chat) {
  if (runs.has(chat.id)) return;
  const asked = path(chat);
  const shown = asked.flatMap((each) => each.pictures ?? []);
  const { task } = asked.at(-1);
  const message = add(chat, chat.leaf, { role: "assistant", text: "", thinking: "", boxes: [], points: [], task, state: "streaming" });
  message.picture = shown.at(-1) ?? null; // the one that boxes are of
  const run = new Run(chat, message);
  runs.set(chat.id, run);
  progressed.emit(chat, message);
  chats.touch(chat);
  try {
    const body = await Promise.race([bodyOf(asked), stopped(run.stopping.signal)]);
    for await (const event of complete(body, run.stopping.signal)) {
      run.take(event);
      progressed.emit(chat, message);
      chats.saveSoon(chat);
    }
    if (task?.isData && message.fields === null) throw new Failure(CUT_OFF);
    message.state = "done";
  } catch (error) {
    message.state = run.stopping.signal.aborted ? "stopped" : "failed";
    if (message.state === "failed") {
      message.error = error.message;
      note("error", `No answer: ${error.message}`);
    }
  }
  runs.delete(chat.id);
  noteTimings(message);
  chats.touch(chat);
  progressed.emit(chat, message);
  ended.emit(chat, message);
}

/** End a chat's answer where it is. */
export function stop(chat) {
  runs.get(chat.id)?.stopping.abort();
}

/** Answer the question before a message again. What was answered stays beside it, unless that is nothing. */
export function again(chat, message) {
  if (runs.has(chat.id)) return;
  if (chats.cameToNothing(chat, message)) discard(chat, message);
  chat.leaf = message.parent;
  start(chat);
}

/** Fails when the signal says stop, and never ends otherwise. */
function stopped(signal) {
  return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
}

async function bodyOf(asked) {
  const messages = await Promise.all(asked.filter((each) => each.role === "user" || each.text).map(withTask));
  const done = tasks.named(asked.at(-1).task?.name);
  const system = done?.system ? "" : settings.setting("system");
  const fields = settings.fields();
  if (done) ["temperature", "top_p"].forEach((name) => delete fields[name]); // a task goes before what is set for all chats
  return { ...fields, messages: system ? [{ role: "system", content: system }, ...messages] : messages };
}

async function withTask(message) {
  const { role, task } = message;
  const told = await messageOf(message);
  return task && role === "user" ? { ...told, task: task.name, parameters: task.given } : told;
}

async function messageOf({ role, text, pictures: shown }) {
  if (!shown?.length) return { role, content: text };
  const detail = settings.setting("detail") || undefined;
  const parts = (await Promise.all(shown.map((id) => partOf(id, detail)))).filter(Boolean);
  return { role, content: parts.length ? [...parts, ...(text ? [{ type: "text", text }] : [])] : text };
}

/** What shows a picture to the model; null, with a warning, for one that the chat has to go on without. */
async function partOf(id, detail) {
  const picture = await pictures.get(id);
  try {
    if (picture) return await picture.asPart(detail);
  } catch (error) {
    if (error.status !== 400) throw error;
  }
  warn(picture ? `${picture.record.name} cannot be read and was left out.` : "A picture is no longer kept in this browser and was left out.");
  return null;
}

function noteTimings({ usage, timings }) {
  if (!usage || !timings) return;
  const told = [
    counted(usage.completion_tokens, "token"),
    timings.decode_tps && rate(timings.decode_tps),
    `first token ${seconds(timings.ttft_s)}`,
    timings.encode_s && `pictures ${seconds(timings.encode_s)}`,
    `prompt ${counted(usage.prompt_tokens, "token")} in ${seconds(timings.prefill_s)}`,
    timings.tokens_reused && `${counted(timings.tokens_reused, "token")} reused`,
  ];
  note("timing", told.filter(Boolean).join(" · "));
}
