/** The tasks that the server does, its own and those of whoever runs it, with prompts in the words for the model in use. */

import { note } from "./log.js";
import { request } from "./server.js";
import { setting } from "./settings.js";
import { Signal } from "./signal.js";

/** The tasks became known, or are those of another model. */
export const changed = new Signal();

let known = [];
let knownFor = null;

/** All of them; what the model has never learnt comes last. */
export const all = () => known;

export const named = (name) => known.find(({ id }) => id === name) ?? null;

/** What a task is for, in Chinese where the browser is. */
export const purpose = (task) => (navigator.language.startsWith("zh") ? task.purpose_zh : task.purpose);

/** Ask the server for them, unless they are known for the model that is chosen. */
export async function refresh() {
  const model = setting("model");
  if (knownFor === model) return;
  knownFor = model;
  try {
    const { data } = await (await request(`/v1/tasks?model=${encodeURIComponent(model)}`)).json();
    if (knownFor !== model) return;
    known = data.sort((a, b) => a.is_beyond_model - b.is_beyond_model);
  } catch (error) {
    knownFor = null;
    note("error", `The tasks are not known: ${error.message}`);
    return;
  }
  changed.emit();
}

/** What a message keeps of a task: its name, what it was given, and how what comes of it is shown. */
export function chosen(name, given) {
  const { shown, schema } = named(name) ?? {};
  const filled = Object.entries(given).filter(([, value]) => value.trim());
  return { name, given: Object.fromEntries(filled), shown: shown ?? "text", isData: Boolean(schema) };
}

/** A task and what it was given, in a line. */
export function told({ name, given }) {
  const values = Object.values(given);
  return values.length ? `${name}: ${values.join(", ")}` : name;
}
