/** The pictures, documents and videos of a question that is being written: small, with what is known of them and how far they are. */

import { byId, h, icon, iconButton, say } from "./dom.js";
import { bytes, count, counted, seconds } from "./format.js";

const STATES = { kept: "", encoding: "looking…", ready: "ready" };

/** What is known of a picture, document or video, in words. */
export function about({ record }) {
  const { object, width, height, tokens, pages, n_pages: all, n_pictures: shown, n_frames: frames } = record;
  if (!tokens) return bytes(record.bytes);
  const sizes = {
    document: () => (shown < all ? `${shown > 1 ? "pages" : "page"} ${pages} of ${all}` : counted(all, "page")),
    video: () => `${seconds(record.seconds)} · ${counted(frames, "frame")}`,
  };
  return `${sizes[object]?.() ?? `${width} × ${height}`} · ${counted(tokens, "token")}`;
}

function stateOf(picture) {
  if (picture.state === "sending") return picture.part < 1 ? `sending ${count(picture.part * 100)} %` : "opening…";
  return picture.state === "failed" ? picture.error : STATES[picture.state];
}

/** A picture that says so where the browser cannot show it, as it is with HEIC, and with PDF until the server has looked at it. */
export function thumbnail(picture, name = "") {
  const { url } = picture;
  const image = h("img", { src: url, alt: name, decoding: "async" });
  const again = (instead) => picture.url !== url && !instead.replaceWith(thumbnail(picture, name));
  image.addEventListener("error", () => {
    const instead = h("span", { class: "unshown" }, icon("picture"), name);
    image.replaceWith(instead);
    const stop = again(instead) || picture.changed?.on(() => again(instead) && stop());
  });
  return image;
}

const CHOICES = {
  document: { key: "pages", of: "Pages", title: "Pages, as 2-5,8; all that fit where it is empty", usual: "all" },
  video: { key: "every", of: "Seconds between frames", title: "A frame every so many seconds, as 2; two a second where it is empty", usual: "0.5" },
};

/** Where other pages of a document or frames of a video are chosen; it comes once the server has told what there is. */
function choiceField(picture) {
  const { object, n_pages: all, name } = picture.record;
  if (object !== "video" && !(all > 1)) return null;
  const { key, of, title, usual } = CHOICES[object];
  const field = h("input", { "aria-label": `${of} of ${name}`, title, placeholder: usual });
  field.addEventListener("change", () => picture.choose({ [key]: field.value.replace(/\s/g, "") }));
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault(); // the question is not sent by it
    event.stopPropagation();
    byId("text").focus();
  });
  const show = () => {
    if (document.activeElement !== field) field.value = picture.record[key] ?? "";
  };
  const isVideo = object === "video";
  return { element: h("label", { class: "choice meta" }, isVideo && "every", field, isVideo && "s"), show };
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
  let choice = null;
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
    if (!choice) {
      choice = choiceField(picture);
      if (choice) retry.before(choice.element);
    }
    choice?.show();
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
