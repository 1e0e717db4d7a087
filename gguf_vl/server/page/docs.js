/** What `/openapi.json` describes, to be read: every operation by its tag, with the fields of its body. */

import { byId, h } from "./dom.js";
import { request } from "./server.js";
import { inline } from "./markdown_inline.js";

const METHODS = ["get", "post", "put", "patch", "delete"];
const DEEPEST = 4;
let schemas = {};

const idOf = (reference) => reference.split("/").at(-1);
const nameOf = (reference) => idOf(reference).split("__").at(-1); // without the module, where several have one name

function resolved(schema) {
  return schema?.$ref ? { ...schemas[idOf(schema.$ref)], ...schema, $ref: undefined } : (schema ?? {});
}

/** A schema's type in words. */
function typeOf(schema) {
  if (!schema || schema === true) return "any";
  if (schema.$ref) return nameOf(schema.$ref);
  if ("const" in schema) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  const several = schema.anyOf ?? schema.oneOf;
  if (several) return [...new Set(several.map(typeOf))].filter((type) => type !== "null").join(" | ");
  if (schema.type === "array") return `list of ${typeOf(schema.items)}`;
  if (schema.format === "binary" || schema.contentMediaType) return "file";
  return schema.type ?? "any";
}

/** The object schemas that a field's type names, to be shown below it. */
function objectsIn(schema) {
  if (!schema) return [];
  if (schema.$ref) return resolved(schema).properties ? [schema.$ref] : [];
  return [schema.items, ...(schema.anyOf ?? []), ...(schema.oneOf ?? [])].flatMap((each) => (each ? objectsIn(each) : []));
}

function words(text) {
  const node = ({ type, text: plain, nodes }) => (type === "code" ? h("code", null, plain) : nodes ? h("span", null, nodes.map(node)) : (plain ?? " "));
  return inline(text.replaceAll("``", "`")).map(node);
}

function fields(schema, seen = []) {
  const { properties = {}, required = [] } = schema;
  const rows = Object.entries(properties).flatMap(([name, field]) => {
    const preset = (field.default ?? "") === "" ? "" : `default ${JSON.stringify(field.default)}`;
    const within = objectsIn(field).filter((reference) => !seen.includes(reference));
    const row = h(
      "tr",
      null,
      h("td", null, h("code", null, name), required.includes(name) && h("span", { class: "needed" }, "needed")),
      h("td", { class: "type" }, typeOf(field)),
      h("td", null, field.description ? words(field.description) : "", h("span", { class: "meta" }, preset)),
    );
    const below = seen.length < DEEPEST && within.map((reference) => {
      const inner = resolved({ $ref: reference });
      return h("tr", null, h("td", { colspan: "3" }, h("details", null, h("summary", null, nameOf(reference)), about(inner), fields(inner, [...seen, reference]))));
    });
    return [row, ...(below || [])];
  });
  if (!rows.length) return h("p", { class: "meta" }, "Any object.");
  return h("div", { class: "table" }, h("table", null, h("thead", null, h("tr", null, ["Field", "Type", "Description"].map((head) => h("th", { scope: "col" }, head)))), h("tbody", null, rows)));
}

function about({ description }) {
  return description ? h("p", null, words(description)) : null;
}

function body(operation) {
  const content = operation.requestBody?.content ?? {};
  return Object.entries(content).map(([type, { schema }]) => {
    const whole = resolved(schema);
    const inner = whole.properties ? [about(whole), fields(whole, [schema.$ref])] : [h("p", { class: "meta" }, typeOf(whole))];
    return h("section", null, h("h3", null, "Body ", h("span", { class: "meta" }, type)), inner);
  });
}

function parameters(operation) {
  const all = operation.parameters ?? [];
  if (!all.length) return null;
  const properties = Object.fromEntries(all.map(({ name, schema, description }) => [name, { description, ...schema }]));
  const required = all.filter((each) => each.required).map(({ name }) => name);
  const places = [...new Set(all.map((each) => each.in))].join(" and ");
  return h("section", null, h("h3", null, "Parameters ", h("span", { class: "meta" }, places)), fields({ properties, required }));
}

function valueFor(schema, deep = 0) {
  const whole = resolved(schema);
  if (whole.enum) return whole.enum.at(-1);
  if ("const" in whole) return whole.const;
  const one = (whole.anyOf ?? whole.oneOf)?.[0];
  if (one) return valueFor(one, deep);
  if (whole.type === "array") return deep < DEEPEST ? [valueFor(whole.items, deep + 1)] : [];
  if (whole.properties) return exampleOf(whole, deep + 1);
  return { string: "…", integer: 1, number: 1, boolean: true }[whole.type] ?? {};
}

function exampleOf(schema, deep = 0) {
  const required = schema.required ?? [];
  return Object.fromEntries(required.map((name) => [name, valueFor(schema.properties[name], deep)]));
}

const SENT = { messages: [{ role: "user", content: "…" }] };

function curl(path, method, operation) {
  const type = Object.keys(operation.requestBody?.content ?? {})[0];
  const address = location.origin + path;
  if (!type) return `curl ${method === "get" ? "" : `-X ${method.toUpperCase()} `}${address}`;
  const schema = resolved(operation.requestBody.content[type].schema);
  if (type === "application/json") {
    const example = exampleOf(schema);
    const data = JSON.stringify("messages" in example ? { ...example, ...SENT } : example);
    return `curl ${address} -H 'Content-Type: application/json' -d '${data}'`;
  }
  if (type.startsWith("multipart/")) return `curl ${address} -F image=@picture.png -F question='…'`;
  return `curl ${address} --data-binary @picture.png`;
}

function operation(path, method, described) {
  const id = `${method}${path}`.replaceAll(/[^a-z0-9]+/gi, "-");
  const example = h("div", { class: "code" }, h("pre", { tabindex: "0" }, h("code", null, curl(path, method, described))));
  const element = h(
    "details",
    { class: "operation", id },
    h("summary", null, h("span", { class: `method ${method}` }, method.toUpperCase()), h("code", null, path), h("span", { class: "meta" }, described.summary ?? "")),
    h("div", { class: "inside" }, about(described), example, parameters(described), body(described)),
  );
  return { id, element, path, method };
}

function byTag(paths) {
  const found = new Map();
  for (const [path, operations] of Object.entries(paths)) {
    for (const method of METHODS.filter((each) => each in operations)) {
      const tag = operations[method].tags?.[0] ?? "Other";
      found.set(tag, [...(found.get(tag) ?? []), operation(path, method, operations[method])]);
    }
  }
  return found;
}

function openNamed() {
  const named = byId(location.hash.slice(1));
  if (!named) return;
  named.open = true;
  named.scrollIntoView();
  named.querySelector("summary").focus();
}

async function show() {
  let description;
  try {
    description = await (await request("/openapi.json")).json();
  } catch (error) {
    byId("waiting").textContent = error.message;
    return;
  }
  schemas = description.components?.schemas ?? {};
  const tags = byTag(description.paths);
  byId("operations").replaceChildren(
    h("p", null, `Version ${description.info.version}, as `, h("code", null, "/openapi.json"), " describes it. Where the server has keys, send one as ", h("code", null, "Authorization: Bearer …"), " or ", h("code", null, "x-api-key"), "."),
    ...[...tags].map(([tag, operations]) => h("section", { "aria-label": tag }, h("h2", null, tag), operations.map(({ element }) => element))),
  );
  byId("contents").replaceChildren(
    ...[...tags].map(([tag, operations]) =>
      h("section", null, h("h2", null, tag), h("ul", null, operations.map(({ id, path, method }) => h("li", null, h("a", { href: `#${id}` }, h("span", { class: `method ${method}` }, method.toUpperCase()), path))))),
    ),
  );
  addEventListener("hashchange", openNamed);
  openNamed();
}

show();
