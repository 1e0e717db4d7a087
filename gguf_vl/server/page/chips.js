/** The pictures of a question that is being written: small, with what is known of them and how far they are. */

import { h, icon, iconButton, say } from "./dom.js";
import { bytes, count, counted } from "./format.js";

const STATES = { kept: "", encoding: "looking…", ready: "ready" };

/** What is known of a picture, in words. */
export function about({ record }) {
  const { width, height, tokens } = record;
  return tokens ? `${width} × ${height} · ${counted(tokens, "token")}` : bytes(record.bytes);
}

function stateOf(picture) {
  if (picture.state === "sending") return picture.part < 1 ? `sending ${count(picture.part * 100)} %` : "opening…";
  return picture.state === "failed" ? picture.error : STATES[picture.state];
}

/** A picture that says so where the browser cannot show it, as it is with HEIC. */
export function thumbnail(picture, name = "") {
  const image = h("img", { src: picture.url, alt: name, decoding: "async" });
  image.addEventListener("error", () => image.replaceWith(h("span", { class: "unshown" }, icon("picture"), name)));
  return image;
}

/**
 * A chip.
 * @param {import("./pictures.js").Picture} picture
 * @param {(picture: object) => void} onRemove
 */
export function chip(picture, onRemove) {
  const meta = h("span", { class: "meta" });
  const state = h("span", { class: "state" });
  const bar = h("progress", { max: "1", "aria-label": `${picture.record.name}: progress` });
  const retry = iconButton("retry", `Send ${picture.record.name} again`, () => picture.send().catch(() => {}), { class: "icon-button retry" });
  const element = h(
    "li",
    { class: "chip" },
    thumbnail(picture),
    h("span", { class: "about" }, h("span", { class: "name", title: picture.record.name }, picture.record.name), meta, state),
    retry,
    iconButton("close", `Remove ${picture.record.name}`, () => {
      stop();
      onRemove(picture);
    }),
    bar,
  );
  let last = picture.state;
  const show = () => {
    element.dataset.state = picture.state;
    meta.textContent = about(picture);
    state.textContent = stateOf(picture);
    state.title = stateOf(picture);
    if (picture.state === "sending" && picture.part < 1) bar.value = picture.part;
    else bar.removeAttribute("value"); // under way, without a number
    if (picture.state !== last && ["ready", "failed"].includes(picture.state)) say(`${picture.record.name}: ${stateOf(picture)}`);
    last = picture.state;
  };
  const stop = picture.changed.on(show);
  show();
  return { element, stop };
}
