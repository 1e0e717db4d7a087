/** Copying text out of the page. */

import { h, icon, say } from "./dom.js";

async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = h("textarea", { class: "unseen", readonly: true }); // the way that is left where no TLS is
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

/** A button that copies what `textOf` gives, and shows that it did; `face` is its icon. */
export function copyButton(label, textOf, props, face = "copy") {
  const button = h("button", { type: "button", class: "icon-button", "aria-label": label, title: label, ...props }, icon(face));
  button.addEventListener("click", async () => {
    await copy(textOf());
    button.replaceChildren(icon("check"));
    say("Copied");
    setTimeout(() => button.replaceChildren(icon(face)), 1500);
  });
  return button;
}
