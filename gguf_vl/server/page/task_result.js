/** What comes of a task, as its task wants it shown. */

import { copyButton } from "./clipboard.js";
import { h } from "./dom.js";

const FENCED = /^\s*```[a-zA-Z]*\n([\s\S]*?)\n?```\s*$/;

const unfenced = (text) => FENCED.exec(text)?.[1] ?? text;

const fenced = (text, language) => `\`\`\`\`\`${language}\n${text}\n\`\`\`\`\``; // five: the text may have three

const cell = (text) => text.replace(/\\/g, "\\\\").replace(/\|/g, "\\|").replace(/\n/g, " ");

function tableOf([head, ...rows]) {
  const line = (cells) => `| ${cells.map(cell).join(" | ")} |`;
  return [line(head), `|${" --- |".repeat(head.length)}`, ...rows.map(line)].join("\n");
}

function csvOf(rows) {
  const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text);
  return rows.map((row) => `${row.map(quoted).join(",")}\n`).join("");
}

/** An answer as Markdown. One that is data is code while it comes, and where it was cut off. */
export function asMarkdown({ text, task, fields, rows }) {
  if (!task) return text;
  if (task.shown === "html") return fenced(unfenced(text), "html");
  if (task.shown === "markdown") return unfenced(text);
  if (!task.isData) return text;
  if (fields === undefined || fields === null) return text && fenced(text, "json");
  if (task.shown === "table" && rows?.[0]?.length) return tableOf(rows);
  if (Array.isArray(fields) && !fields.length && ["boxes", "points"].includes(task.shown)) return "Nothing was found.";
  if (typeof fields !== "object") return String(fields);
  return fenced(JSON.stringify(fields, null, 2), "json");
}

/** A button that copies a table for a spreadsheet; null for what is no table. */
export function csvButton({ rows }) {
  return rows?.length ? copyButton("Copy as CSV", () => csvOf(rows), { class: "icon-button as-csv" }, "table") : null;
}

/** The task of a question, above its words. */
export function label({ name, given }) {
  const values = Object.entries(given).map(([key, value]) => h("span", { class: "given" }, h("span", { class: "meta" }, key), value));
  return h("div", { class: "task-of" }, h("span", { class: "name" }, name), values);
}
