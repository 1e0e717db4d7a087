/** The blocks of a Markdown text, as plain objects with the lines they take. What is not Markdown is a paragraph. */

const FENCE = /^ {0,3}(`{3,}|~{3,})([^`]*)$/;
const DATA = /^ *(?:\{ *"|\[ *[{["])/;
const RULE = /^ {0,3}(?:(?:- *){3,}|(?:\* *){3,}|(?:_ *){3,})$/;
const HEADING = /^ {0,3}(#{1,6})(?=[ \t]|$)/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])( +|$)/;
const DEEPEST = 10;

/**
 * The blocks of a text, each with `line` and `end`, the first line of it and the first behind it.
 * @param {string[]} lines
 * @returns {Array<object>}
 */
export function blocks(lines, depth = 0) {
  const found = [];
  let at = 0;
  while (at < lines.length) {
    if (!lines[at].trim()) {
      at++;
      continue;
    }
    const [block, end] = (depth < DEEPEST && begun(lines, at, depth)) || paragraph(lines, at, depth);
    found.push({ ...block, line: at, end });
    at = end;
  }
  return found;
}

function begun(lines, at, depth) {
  return fence(lines, at) ?? data(lines, at) ?? heading(lines, at) ?? rule(lines, at) ?? quote(lines, at, depth) ?? list(lines, at, depth) ?? table(lines, at);
}

function fence(lines, at) {
  const opening = FENCE.exec(lines[at]);
  if (!opening) return null;
  const marks = opening[1];
  const indent = lines[at].indexOf(marks);
  const text = [];
  let end = at + 1;
  for (; end < lines.length; end++) {
    const line = lines[end].trim();
    if (line.startsWith(marks) && line.replaceAll(marks[0], "") === "") return [code(opening[2], text), end + 1];
    text.push(indent ? lines[end].replace(new RegExp(`^ {0,${indent}}`), "") : lines[end]);
  }
  if (text.length && /^(`{1,2}|~{1,2})$/.test(text.at(-1))) text.pop(); // half of the closing fence
  return [code(opening[2], text), end];
}

function code(info, text) {
  return { type: "code", language: info.trim().split(/[\s{]/, 1)[0], text: text.join("\n") };
}

/** JSON that a model writes without a fence, up to an empty line. */
function data(lines, at) {
  if (!DATA.test(lines[at]) && !(/^ *[[{]$/.test(lines[at]) && at + 1 < lines.length)) return null;
  let end = at + 1;
  while (end < lines.length && lines[end].trim()) end++;
  return [{ type: "code", language: "json", isBare: true, text: lines.slice(at, end).join("\n") }, end];
}

function heading(lines, at) {
  const found = HEADING.exec(lines[at]);
  if (!found) return null;
  const text = lines[at].slice(found[0].length).trim();
  let end = text.length;
  while (text[end - 1] === "#") end--;
  const closed = end === 0 || text[end - 1] === " ";
  return [{ type: "heading", level: found[1].length, text: closed ? text.slice(0, end).trimEnd() : text }, at + 1];
}

function rule(lines, at) {
  return RULE.test(lines[at].trimEnd()) ? [{ type: "rule" }, at + 1] : null;
}

function quote(lines, at, depth) {
  let end = at;
  while (end < lines.length && QUOTE.test(lines[end])) end++;
  if (end === at) return null;
  const inside = lines.slice(at, end).map((line) => line.replace(QUOTE, ""));
  return [{ type: "quote", blocks: blocks(inside, depth + 1) }, end];
}

const expanded = (line) => line.replace(/^[ \t]+/, (blank) => blank.replaceAll("\t", "    "));
const indentOf = (line) => line.length - line.trimStart().length;
const isOrdered = (marker) => marker.length > 1;

function list(lines, at, depth) {
  const first = ITEM.exec(expanded(lines[at]));
  if (!first) return null;
  const base = first[1].length;
  const ordered = isOrdered(first[2]);
  const items = [];
  let end = at;
  while (end < lines.length) {
    const marker = ITEM.exec(expanded(lines[end]));
    if (!marker || isOrdered(marker[2]) !== ordered || (items.length && marker[1].length >= base + 2)) break;
    if (items.length && RULE.test(lines[end].trimEnd())) break;
    const [item, next] = itemAt(lines, end, marker, base, depth);
    items.push(item);
    end = next;
  }
  return [{ type: "list", ordered, start: ordered ? parseInt(first[2], 10) : 1, items }, end];
}

/** The item that begins with `marker`, and the line behind it and the empty lines that follow. */
function itemAt(lines, at, marker, base, depth) {
  const inside = [expanded(lines[at]).slice(marker[0].length)];
  const indent = marker[1].length + marker[2].length + 1;
  let end = at + 1;
  let blank = false;
  for (; end < lines.length; end++) {
    const line = expanded(lines[end]);
    if (!line.trim()) {
      blank = true;
      inside.push("");
      continue;
    }
    const deep = indentOf(line) >= base + 2;
    if (!deep && (blank || ITEM.test(line) || interrupts(lines, end))) break;
    blank = false;
    inside.push(line.slice(Math.min(indentOf(line), indent)));
  }
  const task = /^\[([ xX])\] +/.exec(inside[0]);
  if (task) inside[0] = inside[0].slice(task[0].length);
  return [{ done: task && task[1] !== " ", blocks: blocks(inside, depth + 1) }, end];
}

/** The cells of a table's row: what stands between its bars, but for those that are escaped or in code. */
function cells(line) {
  const found = [""];
  let inCode = false;
  const row = line.trim();
  for (let at = row[0] === "|" ? 1 : 0; at < row.length; at++) {
    if (row[at] === "\\" && row[at + 1] === "|") found[found.length - 1] += row[++at];
    else if (row[at] === "|" && !inCode) found.push("");
    else {
      if (row[at] === "`") inCode = !inCode && row.includes("`", at + 1);
      found[found.length - 1] += row[at];
    }
  }
  if (found.length > 1 && found.at(-1) === "") found.pop();
  return found.map((cell) => cell.trim());
}

function alignment(cell) {
  if (cell.endsWith(":")) return cell.startsWith(":") ? "center" : "right";
  return "left";
}

function table(lines, at) {
  if (!lines[at].includes("|") || !/^[\s|:-]+$/.test(lines[at + 1] ?? "")) return null;
  const head = cells(lines[at]);
  const marks = cells(lines[at + 1]);
  if (marks.length !== head.length || !marks.every((cell) => /^:?-+:?$/.test(cell))) return null;
  const rows = [];
  let end = at + 2;
  for (; end < lines.length && lines[end].includes("|"); end++) {
    const row = cells(lines[end]);
    rows.push(head.map((_, column) => row[column] ?? ""));
  }
  return [{ type: "table", align: marks.map(alignment), head, rows }, end];
}

/** Whether a line begins a block of its own in the middle of a paragraph. */
function interrupts(lines, at) {
  const line = lines[at];
  const item = ITEM.exec(expanded(line));
  const listed = item && item[0].length < expanded(line).length && (!isOrdered(item[2]) || parseInt(item[2], 10) <= 1);
  return listed || FENCE.test(line) || QUOTE.test(line) || RULE.test(line.trimEnd()) || HEADING.test(line) || table(lines, at) !== null;
}

function paragraph(lines, at, depth) {
  let end = at + 1;
  while (end < lines.length && lines[end].trim() && (depth >= DEEPEST || !interrupts(lines, end))) end++;
  const text = lines.slice(at, end).map((line) => line.trimStart()).join("\n").trimEnd();
  return [{ type: "paragraph", text }, end];
}
