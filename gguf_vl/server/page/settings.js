/** What a person has set, for all chats of this browser. What is empty is left to the server, which takes the recommended. */

import { byId, h } from "./dom.js";
import { note } from "./log.js";
import { forGood } from "./memory.js";
import { request } from "./server.js";
import { Signal } from "./signal.js";

const KEPT = "gguf-vl.settings";
const NUMBERS = ["temperature", "top_p", "max_tokens"];
const NAMES = ["model", "detail", "system", ...NUMBERS];

/** Something was set, or the models became known. */
export const changed = new Signal();

let models = [];
const values = forGood.get(KEPT) ?? {};

/** A setting as it was typed, empty where nothing was. */
export const setting = (name) => values[name] ?? "";

/** The fields of a request that are set. */
export function fields() {
  const set = NUMBERS.filter((name) => setting(name) !== "" && isValid(name));
  return { model: setting("model"), ...Object.fromEntries(set.map((name) => [name, Number(setting(name))])) };
}

/** The model that answers: the one that was chosen, or the server's default. Null before they are known. */
export function model() {
  return models.find((each) => each.id === setting("model")) ?? models[0] ?? null;
}

/** Tokens that a chat with the model may have; null where that is not known. */
export function contextOf(name) {
  return (models.find((each) => each.id === name) ?? model())?.n_ctx ?? null;
}

/** Ask the server for its models; what went wrong, null where nothing did. */
export async function refresh() {
  try {
    models = (await (await request("/v1/models")).json()).data;
  } catch (error) {
    note("error", `The models are not known: ${error.message}`);
    return error.message;
  }
  const chosen = setting("model");
  const names = models.map(({ id }) => id);
  if (chosen && !names.includes(chosen)) set("model", "");
  byId("set-model").replaceChildren(
    h("option", { value: "" }, `${names[0]} (default)`),
    ...names.slice(1).map((name) => h("option", { value: name }, name)),
  );
  byId("set-model").value = setting("model");
  changed.emit();
  return null;
}

const input = (name) => byId(`set-${name}`);
const isValid = (name) => input(name).checkValidity();

function set(name, value) {
  values[name] = value;
  forGood.set(KEPT, values);
  input(name).setAttribute("aria-invalid", String(!isValid(name)));
  showReset();
  changed.emit();
}

function showReset() {
  byId("settings-reset").disabled = NAMES.every((each) => !setting(each));
}

/** Tie the fields of the panel to the values. */
export function mount() {
  for (const name of NAMES) {
    input(name).value = setting(name);
    input(name).addEventListener("input", () => {
      set(name, input(name).value.trim());
      input(name).reportValidity();
    });
  }
  showReset();
  byId("settings-reset").addEventListener("click", () => {
    for (const name of NAMES) {
      input(name).value = "";
      set(name, "");
    }
  });
}
