/** The words of a paragraph: code, emphasis and links in a text, as plain objects. Takes time in proportion to the text. */

const SPECIAL = /[\\`*_~![<&\n]|https?:\/\//gi;
const ESCAPABLE = /[!-/:-@[-`{-~]/;
const WORD = /[\p{L}\p{N}_]/u;
const URL_END = /[\s<>"`，。；：！？、（）「」【】《》]/u;
const ENTITY = /&(amp|lt|gt|quot|apos|#39|nbsp);/y;
const CHARACTERS = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", "#39": "'", nbsp: "\u00a0" };
const TRAILING = ".,;:!?'])*_~";
const DEEPEST = 12;
const LONGEST_LABEL = 300;
const LONGEST_URL = 2000;

/**
 * An address that a link may lead to, null for any other.
 * @param {string} url
 */
export function safeUrl(url) {
  if (!/^(?:https?:\/\/|mailto:)/i.test(url)) return null;
  try {
    return new URL(url).href;
  } catch {
    return null;
  }
}

/**
 * The nodes of a text: {type: "text" | "code", text}, {type: "strong" | "em" | "del" | "link", nodes, url?}, {type: "break"}.
 * @param {string} text
 * @returns {Array<object>}
 */
export function inline(text, depth = 0) {
  return depth > DEEPEST ? [{ type: "text", text }] : new Reader(text, depth).nodes();
}

class Reader {
  #at = 0;
  #plain = "";
  #nodes = [];
  #missing = new Set(); // ends that are known not to come any more

  constructor(text, depth) {
    this.text = text;
    this.depth = depth;
  }

  nodes() {
    const { text } = this;
    while (this.#at < text.length) {
      SPECIAL.lastIndex = this.#at;
      const next = SPECIAL.exec(text)?.index ?? text.length;
      this.#plain += text.slice(this.#at, next);
      this.#at = next;
      if (next < text.length && !this.#special(text[next])) this.#plain += text[this.#at++];
    }
    this.#flush();
    return this.#nodes;
  }

  #flush() {
    if (this.#plain) this.#nodes.push({ type: "text", text: this.#plain });
    this.#plain = "";
  }

  #push(node, next) {
    this.#flush();
    this.#nodes.push(node);
    this.#at = next;
    return true;
  }

  #write(text, next) {
    this.#plain += text;
    this.#at = next;
    return true;
  }

  /** Read what begins here; false where it is a character like any other. */
  #special(character) {
    switch (character) {
      case "\\":
        return this.#escape();
      case "\n":
        this.#plain = this.#plain.trimEnd();
        return this.#push({ type: "break" }, this.#at + 1);
      case "`":
        return this.#code();
      case "*":
      case "_":
        return this.#emphasis(character);
      case "~":
        return this.#struck();
      case "!":
        return this.text[this.#at + 1] === "[" && this.#link(this.#at + 1);
      case "[":
        return this.#link(this.#at);
      case "<":
        return this.#angle();
      case "&":
        return this.#entity();
      default:
        return this.#bare();
    }
  }

  #escape() {
    const next = this.text[this.#at + 1] ?? "";
    if (next === "\n") return this.#push({ type: "break" }, this.#at + 2);
    return ESCAPABLE.test(next) && this.#write(next, this.#at + 2);
  }

  #run(character, from) {
    let end = from;
    while (this.text[end] === character) end++;
    return end - from;
  }

  #code() {
    const n = this.#run("`", this.#at);
    const begin = this.#at + n;
    const ticks = "`".repeat(n);
    for (let at = begin; !this.#missing.has(ticks); ) {
      const end = this.text.indexOf(ticks, at);
      if (end < 0) {
        this.#missing.add(ticks);
        break;
      }
      const length = this.#run("`", end);
      if (length === n) {
        const inside = this.text.slice(begin, end).replaceAll("\n", " ");
        const padded = inside.length > 2 && inside.startsWith(" ") && inside.endsWith(" ") && inside.trim();
        return this.#push({ type: "code", text: padded ? inside.slice(1, -1) : inside }, end + n);
      }
      at = end + length;
    }
    return this.#write(ticks, begin);
  }

  #emphasis(character) {
    const { text } = this;
    const n = this.#run(character, this.#at);
    const begin = this.#at + n;
    const before = text[this.#at - 1] ?? " ";
    const opens = n <= 3 && begin < text.length && !/\s/.test(text[begin]) && !(character === "_" && WORD.test(before));
    const end = opens ? this.#emphasisEnd(character, n, begin) : -1;
    if (end < 0) return this.#write(text.slice(this.#at, begin), begin);
    const nodes = inline(text.slice(begin, end), this.depth + 1);
    const inner = n === 2 ? { type: "strong", nodes } : { type: "em", nodes };
    return this.#push(n === 3 ? { type: "strong", nodes: [inner] } : inner, end + n);
  }

  /** Where the emphasis that begins before `from` ends: at a run that is as long, or longer by what ends inside it. */
  #emphasisEnd(character, n, from) {
    const { text } = this;
    const end = character.repeat(n);
    if (this.#missing.has(end)) return -1;
    for (let at = text.indexOf(end, from); at >= 0; ) {
      const length = this.#run(character, at);
      const fits = length === n || (length === 3 && n < 3);
      const closes = !/\s/.test(text[at - 1]) && text[at - 1] !== "\\" && !(character === "_" && WORD.test(text[at + length] ?? " "));
      if (at > from && fits && closes) return at + (length - n);
      at = text.indexOf(end, at + length);
    }
    this.#missing.add(end);
    return -1;
  }

  #struck() {
    const begin = this.#at + 2;
    if (this.#run("~", this.#at) !== 2 || this.#missing.has("~~")) return false;
    const end = this.text.indexOf("~~", begin + 1);
    if (end < 0) {
      this.#missing.add("~~");
      return false;
    }
    return this.#push({ type: "del", nodes: inline(this.text.slice(begin, end), this.depth + 1) }, end + 2);
  }

  /** `[label](address)`; a picture's address becomes a link too, since nothing is fetched for a model. */
  #link(open) {
    const close = this.#closing("[", "]", open, LONGEST_LABEL);
    if (close < 0 || this.text[close + 1] !== "(") return false;
    const end = this.#closing("(", ")", close + 1, LONGEST_URL);
    if (end < 0) return false;
    const [address] = this.text.slice(close + 2, end).trim().split(/\s/, 1);
    const url = safeUrl(address.replace(/^<|>$/g, ""));
    if (!url) return false;
    const label = this.text.slice(open + 1, close) || address;
    return this.#push({ type: "link", url, nodes: inline(label, this.depth + 1).flatMap(unlinked) }, end + 1);
  }

  #closing(opening, closing, from, longest) {
    const last = Math.min(this.text.length, from + longest);
    let deep = 0;
    for (let at = from; at < last; at++) {
      const character = this.text[at];
      if (character === "\\") at++;
      else if (character === opening) deep++;
      else if (character === closing && --deep === 0) return at;
    }
    return -1;
  }

  #angle() {
    const [inside, closed] = this.text.slice(this.#at + 1, this.#at + LONGEST_URL).split(">", 2);
    if (closed === undefined) return false;
    const next = this.#at + inside.length + 2;
    if (["br", "br/", "br /"].includes(inside.toLowerCase())) return this.#push({ type: "break" }, next);
    const url = /\s/.test(inside) ? null : safeUrl(inside);
    return !!url && this.#push({ type: "link", url, nodes: [{ type: "text", text: inside }] }, next);
  }

  #entity() {
    ENTITY.lastIndex = this.#at;
    const found = ENTITY.exec(this.text);
    return !!found && this.#write(CHARACTERS[found[1]], this.#at + found[0].length);
  }

  /** An address that stands in the text as it is. */
  #bare() {
    if (WORD.test(this.text[this.#at - 1] ?? " ")) return false;
    let end = this.#at;
    while (end < this.text.length && end - this.#at < LONGEST_URL && !URL_END.test(this.text[end])) end++;
    const hasBracket = this.text.slice(this.#at, end).includes("(");
    while (TRAILING.includes(this.text[end - 1]) && !(this.text[end - 1] === ")" && hasBracket)) end--;
    const address = this.text.slice(this.#at, end);
    const url = /^https?:\/\/[^/]/i.test(address) ? safeUrl(address) : null;
    return !!url && this.#push({ type: "link", url, nodes: [{ type: "text", text: address }] }, this.#at + address.length);
  }
}

/** A link has no links inside. */
function unlinked(node) {
  if (node.type === "link") return node.nodes.flatMap(unlinked);
  return [node.nodes ? { ...node, nodes: node.nodes.flatMap(unlinked) } : node];
}
