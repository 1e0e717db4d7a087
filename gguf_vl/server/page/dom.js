/** Builds nodes. Text is always set as text: nothing on this page is ever parsed as HTML. */

const SVG = "http://www.w3.org/2000/svg";

function filled(node, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== false));
  return node;
}

/**
 * An element. Properties that begin with `on` are listeners, all others attributes; what is false or null is left out.
 * @param {string} tag
 * @param {?Object<string, any>} [props]
 * @param {...(Node|string|false|null|Array)} children
 * @returns {HTMLElement}
 */
export function h(tag, props, ...children) {
  return filled(document.createElement(tag), props, children);
}

/** An SVG element, as `h`. */
export function s(tag, props, ...children) {
  return filled(document.createElementNS(SVG, tag), props, children);
}

/** One of the symbols that index.html defines. */
export function icon(name) {
  return s("svg", { class: "icon", viewBox: "0 0 20 20", "aria-hidden": "true" }, s("use", { href: `#i-${name}` }));
}

/** Put the symbols that index.html asks for into their places, and names where a pointer rests. */
export function fillIcons() {
  for (const element of document.querySelectorAll("[data-icon]")) {
    element.prepend(icon(element.dataset.icon));
    if (element.ariaLabel && !element.title) element.title = element.ariaLabel;
  }
}

/** A button that shows an icon alone; `label` is read out and shown on hovering. */
export function iconButton(name, label, onclick, props) {
  return h("button", { type: "button", class: "icon-button", "aria-label": label, title: label, onclick, ...props }, icon(name));
}

/** The element of that id, which the page has. */
export function byId(id) {
  return document.getElementById(id);
}

/** Give the focus to the question where what had it was hidden, disabled or taken away. On a phone that would open a keyboard. */
export function keepFocus() {
  const has = document.activeElement ?? document.body;
  const isLost = has === document.body || has.disabled || !has.checkVisibility();
  if (isLost && matchMedia("(hover: hover)").matches) byId("text").focus({ preventScroll: true });
}

/** Whether a key is for an input method, such as those of Chinese; Safari tells it by the code alone. */
export const isComposing = (event) => event.isComposing || event.keyCode === 229;

/** Tell who listens to the page instead of looking at it. */
export function say(text) {
  const region = byId("said");
  region.textContent = "";
  setTimeout(() => (region.textContent = text), 60); // an emptied region first: a repeated text is told again
}
