/** Markdown that grows, shown in an element. Nodes are built one by one, so an answer can hold no HTML of its own. */

import { copyButton } from "./clipboard.js";
import { h } from "./dom.js";
import { blocks } from "./markdown_blocks.js";
import { inline } from "./markdown_inline.js";

/** Shows a text. When it has grown, only its end is read and built again. */
export class Markdown {
  #source = "";
  #settled = 0; // characters of blocks that cannot change any more
  #open = []; // what stands behind them: {type, raw, node}

  constructor(element) {
    this.element = element;
  }

  show(text) {
    if (text === this.#source) return;
    if (!text.startsWith(this.#source)) this.#restart();
    this.#source = text;
    const lines = text.slice(this.#settled).split("\n");
    const found = blocks(lines).map((block) => this.#placed(block, lines));
    this.#replace(found);
    this.#settle(found, lines);
  }

  #restart() {
    this.element.replaceChildren();
    this.#settled = 0;
    this.#open = [];
  }

  #placed(block, lines) {
    return { block, type: block.type, raw: lines.slice(block.line, block.end).join("\n"), node: null };
  }

  #replace(found) {
    const before = this.#open;
    found.forEach((each, place) => {
      const old = before[place];
      if (old && old.type === each.type && old.raw === each.raw) {
        each.node = old.node;
      } else if (old?.type === "code" && each.type === "code" && old.block.language === each.block.language) {
        each.node = old.node;
        each.node.querySelector("code").textContent = each.block.text;
      } else {
        each.node = built(each.block);
        if (old) old.node.replaceWith(each.node);
        else this.element.append(each.node);
      }
    });
    for (const old of before.slice(found.length)) old.node.remove();
  }

  /** Leave the last block open; the one before too while the last is a line that is still being written. */
  #settle(found, lines) {
    const last = found.at(-1);
    const unfinished = last && last.block.line === lines.length - 1;
    const keep = Math.max(0, found.length - (unfinished ? 2 : 1));
    if (keep > 0) {
      const line = found[keep].block.line;
      this.#settled += lines.slice(0, line).reduce((sum, each) => sum + each.length + 1, 0);
    }
    this.#open = found.slice(keep);
  }
}

function built(block) {
  switch (block.type) {
    case "heading":
      return h(`h${Math.min(6, block.level + 2)}`, null, words(block.text));
    case "code":
      return code(block);
    case "quote":
      return h("blockquote", null, block.blocks.map(built));
    case "rule":
      return h("hr");
    case "list":
      return h(block.ordered ? "ol" : "ul", block.ordered && block.start !== 1 ? { start: block.start } : null, block.items.map(item));
    case "table":
      return table(block);
    default:
      return h("p", null, words(block.text));
  }
}

function item({ done, blocks: inside }) {
  const [first, ...rest] = inside;
  const opening = first?.type === "paragraph" ? words(first.text) : first ? [built(first)] : [];
  const box = done !== null && h("input", { type: "checkbox", checked: done, disabled: true, "aria-label": done ? "done" : "to do" });
  return h("li", done === null ? null : { class: "task" }, box, opening, rest.map(built));
}

function code({ language, text, isBare }) {
  const body = h("code", null, text);
  return h(
    "figure",
    { class: isBare ? "code bare" : "code" },
    h("figcaption", null, h("span", null, language || "text"), copyButton("Copy the code", () => body.textContent)),
    h("pre", { tabindex: "0" }, body),
  );
}

function table({ align, head, rows }) {
  const row = (tag, cells) => h("tr", null, cells.map((cell, column) => h(tag, { class: `to-${align[column]}`, scope: tag === "th" && "col" }, words(cell))));
  return h(
    "div",
    { class: "table", role: "region", "aria-label": "Table", tabindex: "0" },
    h("table", null, h("thead", null, row("th", head)), h("tbody", null, rows.map((cells) => row("td", cells)))),
  );
}

function words(text) {
  return inline(text).map(word);
}

function word({ type, text, nodes, url }) {
  switch (type) {
    case "text":
      return document.createTextNode(text);
    case "code":
      return h("code", null, text);
    case "break":
      return h("br");
    case "link":
      return h("a", { href: url, title: url, target: "_blank", rel: "noopener noreferrer" }, nodes.map(word));
    default:
      return h(type, null, nodes.map(word));
  }
}
