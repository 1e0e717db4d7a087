/** Questions to the person that wait for an answer. */

import { h } from "./dom.js";
import { newId } from "./format.js";

/** The end of a form: a button that sends it, and one that does not. */
export function decision(yes, onNo) {
  const no = h("button", { type: "button", class: "quiet", onclick: onNo }, "Cancel");
  return h("div", { class: "row end" }, no, h("button", { type: "submit", class: "primary" }, yes));
}

/**
 * Ask. Resolves to what was typed, true where there is no field, null when it was declined.
 * @param {{title: string, text?: string, yes: string, field?: {label: string, type?: string, value?: string}}} question
 * @returns {Promise<string|true|null>}
 */
export function ask({ title, text, yes, field }) {
  return new Promise((resolve) => {
    const id = newId();
    const input = field && h("input", { id: `${id}f`, type: field.type ?? "text", value: field.value, autocomplete: "off", required: true });
    const form = h(
      "form",
      null,
      h("h2", { id }, title),
      text && h("p", null, text),
      input && h("label", { for: `${id}f` }, field.label),
      input,
      decision(yes, () => dialog.close("")),
    );
    const dialog = h("dialog", { class: "ask", "aria-labelledby": id }, form);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      dialog.close("yes");
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes" ? (input ? input.value : true) : null);
    });
    document.body.append(dialog);
    dialog.showModal();
    input?.select();
  });
}
