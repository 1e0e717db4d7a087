/** Boxes and points over a picture, their labels below it: what is pointed at in one is shown in the other. */

import { thumbnail } from "./chips.js";
import { copyButton } from "./clipboard.js";
import { h, s } from "./dom.js";

const COLOURS = 7; // talk.css has so many, which colour-blind people can tell apart; then they come again, dashed
const BADGE = 9; // pixels on the screen
const DOT = 5;

/**
 * @param {{url: string, width: number, height: number, name: string}} picture with its size in pixels
 * @param {Array<{label: string, x1: number, y1: number, x2: number, y2: number}>} boxes in its pixels
 * @param {Array<{label: string, x: number, y: number}>} points likewise
 * @returns {HTMLElement}
 */
export function located(picture, boxes, points = []) {
  const { width, height } = picture;
  const overlay = s("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", class: "boxes" });
  const stage = h("div", { class: "stage" }, thumbnail(picture, picture.name), overlay);
  stage.style.setProperty("--width", `${width}px`);
  stage.style.setProperty("--ratio", width / height);
  const places = [...boxes, ...points];
  const marks = places.map((each, place) => ("x1" in each ? mark(each, place, width) : pointMark(each, place)));
  const labels = places.map(label);
  const largestFirst = [...marks].sort((a, b) => b.area - a.area); // so that a small box in a large one can be pointed at
  overlay.append(...largestFirst.map(({ frame }) => frame));

  const point = (place, on) => {
    overlay.classList.toggle("pointing", on);
    marks[place].frame.classList.toggle("pointed", on);
    labels[place].classList.toggle("pointed", on);
  };
  marks.forEach(({ frame }, place) => tie(frame, place, point));
  labels.forEach((each, place) => tie(each, place, point));
  keepBadges(stage, marks, width);
  const what = boxes.length ? "boxes" : "points";
  const asJson = copyButton(`Copy the ${what} as JSON, in pixels of the picture`, () => JSON.stringify(places));
  return h(
    "figure",
    { class: "located" },
    stage,
    h(
      "figcaption",
      null,
      h("ol", { class: "labels" }, labels.map((each) => h("li", null, each))),
      asJson,
    ),
  );
}

function tie(element, place, point) {
  for (const event of ["pointerenter", "focus"]) element.addEventListener(event, () => point(place, true));
  for (const event of ["pointerleave", "blur"]) element.addEventListener(event, () => point(place, false));
}

const colour = (place) => `colour-${place % COLOURS}${Math.floor(place / COLOURS) % 2 ? " dashed" : ""}`;

function mark({ label: text, x1, y1, x2, y2 }, place, width) {
  const sides = { x: x1, y: y1, width: x2 - x1, height: y2 - y1 };
  const badge = s("g", { class: "badge" }, ...badgeOf(place));
  const frame = s(
    "g",
    { class: `box ${colour(place)}`, tabindex: "-1", role: "img", "aria-label": `Box ${place + 1}: ${text || "no label"}` },
    s("rect", { class: "halo", ...sides }),
    s("rect", { class: "edge", ...sides }),
    badge,
  );
  return { frame, badge, area: sides.width * sides.height, x: Math.min(x1, width), y: y1 };
}

/** A point is a dot of one size on the screen, with its number beside it. */
function pointMark({ label: text, x, y }, place) {
  const number = s("g", { transform: `translate(${BADGE + 3} ${-BADGE - 3})` }, ...badgeOf(place));
  const badge = s("g", { class: "badge" }, s("circle", { class: "dot", r: DOT }), number);
  const frame = s(
    "g",
    { class: `box ${colour(place)}`, tabindex: "-1", role: "img", "aria-label": `Point ${place + 1}: ${text || "no label"}` },
    badge,
  );
  return { frame, badge, area: 0, x, y, isPoint: true };
}

const badgeOf = (place) => [s("circle", { r: BADGE }), s("text", { "text-anchor": "middle", dy: "0.36em" }, String(place + 1))];

function label({ label: text, x1, y1, x2, y2, x, y }, place) {
  return h(
    "button",
    { type: "button", class: `label ${colour(place)}` },
    h("span", { class: "badge", "aria-hidden": "true" }, String(place + 1)),
    h("span", { class: "name" }, text || "no label"),
    h("span", { class: "where" }, x1 === undefined ? `${x}, ${y}` : `${x1}, ${y1} – ${x2}, ${y2}`),
  );
}

/** Badges have one size on the screen, however large the picture is shown. */
function keepBadges(stage, marks, width) {
  new ResizeObserver(() => {
    const scale = width / (stage.clientWidth || width);
    for (const { badge, x, y, isPoint } of marks) {
      const inside = isPoint ? 0 : BADGE * scale;
      badge.setAttribute("transform", `translate(${Math.max(x, inside)} ${Math.max(y, inside)}) scale(${scale})`);
    }
  }).observe(stage);
}
