/** The task of the question that is being written: its name, and a field for each of its parameters. */

import { byId, h, icon, iconButton } from "./dom.js";
import * as tasks from "./tasks.js";

let inputs = new Map();

function field({ name, help, default: usual, choices }, value, onChange) {
  const told = { title: help, required: usual === null, "aria-label": `${name}: ${help}` };
  const options = [...(usual === null ? [""] : []), ...choices].map((each) => h("option", { value: each }, each));
  const input = choices.length
    ? h("select", told, ...options)
    : h("input", { ...told, type: "text", placeholder: usual ?? help, autocomplete: "off" });
  input.value = value || (choices.length && usual) || "";
  input.addEventListener("input", () => onChange(name, input.value));
  inputs.set(name, input);
  return h("label", null, h("span", { class: "meta" }, name), input);
}

/**
 * Show a draft's task, null for none.
 * @param {?{name: string, given: Object<string, string>}} draft
 * @param {{change: (name: string, value: string) => void, remove: () => void}} on
 */
export function show(draft, on) {
  const place = byId("task");
  inputs = new Map();
  const task = draft && tasks.named(draft.name);
  place.hidden = !draft;
  if (!draft) return place.replaceChildren();
  const name = h("span", { class: "name", title: task ? tasks.purpose(task) : null }, icon("tasks"), draft.name);
  const fields = (task?.parameters ?? []).map((each) => field(each, draft.given[each.name] ?? "", on.change));
  place.replaceChildren(name, ...fields, iconButton("close", `Leave out the task ${draft.name}`, on.remove));
}

/** Go to the first parameter that has to be given and is not; false where there is none. */
export function toLacking() {
  const lacking = [...inputs.values()].find((input) => input.required && !input.value.trim());
  lacking?.focus();
  return Boolean(lacking);
}

/** What keeps a draft from being sent, in words; null where nothing does. `text` may be the one thing it lacks. */
export function trouble(draft, text, n) {
  const task = tasks.named(draft.name);
  if (!task) return null; // the server tells
  const [least, most] = task.n_pictures;
  if (n < least) return `${task.id} is about ${least === 1 ? "a picture" : `${least} pictures`}. Add ${n ? "more" : "one"} first.`;
  if (n > most) return `${task.id} is about ${most === 1 ? "one picture" : `${most} pictures`}, and there are ${n}.`;
  const lacking = task.parameters.filter((each) => each.default === null && !draft.given[each.name]?.trim());
  if (!lacking.length || (lacking.length === 1 && text)) return null;
  return `Say ${lacking[0].name} first: ${lacking[0].help}.`;
}
