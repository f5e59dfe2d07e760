// The API's documentation, made of /openapi.json, with a form to try each route.

/** @typedef {{name: string, in: string, required?: boolean, description?: string, schema: any}} Parameter */
/** @typedef {{summary?: string, description?: string, tags?: string[], parameters?: Parameter[], requestBody?: any}} Operation */

/**
 * @param {string} tag
 * @param {Record<string, any>} attributes
 * @param {...(Node | string)} children
 */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false && value != null) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

/** Text whose `words` are code. @param {string} text */
function inline(text) {
  return text.split("`").map((part, i) => (i % 2 ? element("code", {}, part) : part));
}

/** Paragraphs and lists, all that descriptions are made of. @param {string} text */
function prose(text) {
  return text.split("\n\n").map((block) => {
    const lines = block.split("\n");
    if (!lines.every((line) => line.startsWith("- "))) return element("p", {}, ...inline(block));
    return element("ul", {}, ...lines.map((line) => element("li", {}, ...inline(line.slice(2)))));
  });
}

/** What a parameter's schema is, past "or null". @param {any} schema */
function plain(schema) {
  return schema?.anyOf?.find((/** @type {any} */ one) => one.type !== "null") ?? schema ?? {};
}

/** @param {Parameter} parameter @param {string} id */
function field(parameter, id) {
  const schema = plain(parameter.schema);
  const choices = schema.enum ?? (schema.type === "boolean" ? ["true", "false"] : null);
  const ungiven = parameter.schema?.default ?? (parameter.required ? "required" : "");
  const input = choices
    ? element("select", { id, name: parameter.name },
        ...["", ...choices].map((choice) => element("option", { value: choice }, choice)))
    : element("input", { id, name: parameter.name, placeholder: String(ungiven), required: parameter.required, autocomplete: "off" });
  const help = [parameter.description ?? parameter.schema?.description ?? ""];
  if (schema.type === "array") help.push("Several with commas between.");
  return element("div", { class: "field" },
    element("label", { for: id }, parameter.name), input,
    element("span", { class: "help" }, ...inline(help.join(" "))));
}

/** The address that a form asks. @param {string} path @param {Parameter[]} parameters @param {FormData} given */
function address(path, parameters, given) {
  const query = new URLSearchParams();
  let place = path;
  for (const parameter of parameters) {
    const text = String(given.get(parameter.name) ?? "");
    if (parameter.in === "path") place = place.replace(`{${parameter.name}}`, encodeURIComponent(text));
    else if (text && plain(parameter.schema).type === "array") text.split(",").forEach((one) => query.append(parameter.name, one.trim()));
    else if (text) query.append(parameter.name, text);
  }
  return query.size ? `${place}?${query}` : place;
}

/** @param {any} value */
function cell(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "number" && !Number.isInteger(value)) return value.toPrecision(5);
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** Rows as a table, anything else as it is. @param {any} content */
function shown(content) {
  const rows = content?.rows;
  if (!Array.isArray(rows) || !rows.length) return element("pre", {}, JSON.stringify(content, null, 2).slice(0, 20000));
  const names = Object.keys(rows[0]);
  const meaning = Object.fromEntries((content.columns ?? []).map((/** @type {any} */ one) => [one.name, one.meaning]));
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "The answer" },
    element("table", {},
      element("thead", {}, element("tr", {}, ...names.map((name) => element("th", { title: meaning[name] }, name)))),
      element("tbody", {}, ...rows.slice(0, 200).map((/** @type {any} */ row) =>
        element("tr", {}, ...names.map((name) => element("td", { title: cell(row[name]) }, cell(row[name]))))))));
}

/** @param {string} path @param {string} method @param {Operation} operation @param {string} id */
function route(path, method, operation, id) {
  const parameters = (operation.parameters ?? []).filter((one) => one.in !== "header");
  const answer = element("div", { "aria-live": "polite" });
  const body = operation.requestBody ? element("textarea", { name: "body", "aria-label": "The structure", placeholder: "The structure: paste a CIF, POSCAR, extxyz or JSON" }) : null;
  const form = /** @type {HTMLFormElement} */ (element("form", {},
    ...parameters.map((one) => field(one, `${id}-${one.name}`)),
    ...(body ? [body, element("p", {})] : []),
    element("button", { type: "submit" }, "Ask")));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const given = new FormData(form);
    const where = address(path, parameters, given);
    const command = `curl ${body ? "--data-binary @FILE " : ""}'${location.origin}${where}'`;
    answer.replaceChildren(element("pre", {}, command));
    try {
      const began = performance.now();
      const sent = body ? { method: "POST", body: String(given.get("body") ?? ""), headers: { "Content-Type": "text/plain" } } : {};
      const response = await fetch(where, sent);
      const text = await response.text();
      const took = `${response.status} in ${Math.round(performance.now() - began)} ms`;
      const content = /json/.test(response.headers.get("content-type") ?? "") ? JSON.parse(text) : null;
      answer.append(element("p", { class: "said" }, took), content ? shown(content) : element("pre", {}, text.slice(0, 20000)));
    } catch (error) {
      answer.append(element("p", { class: "said" }, String(error)));
    }
  });
  return element("details", { id },
    element("summary", {},
      element("span", { class: `method ${method}` }, method.toUpperCase()),
      element("span", { class: "path" }, path),
      element("span", { class: "what" }, ...inline(operation.summary ?? ""))),
    element("div", { class: "body" }, ...prose(operation.description ?? ""), form, answer));
}

function openTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target instanceof HTMLDetailsElement) target.open = true;
}

async function main() {
  const [description, store] = await Promise.all(["/openapi.json", "/api/store"].map(async (url) => (await fetch(url)).json()));
  const count = (/** @type {number} */ n) => n.toLocaleString("en");
  /** @type {HTMLElement} */ (document.getElementById("store")).textContent =
    `version ${description.info.version} · snapshot ${store.snapshot} · ${count(store.structures)} crystals · ` +
    store.models.map((/** @type {any} */ model) => model.name).join(", ");
  /** @type {Map<string, Node[]>} */
  const groups = new Map();
  /** @type {Map<string, Node[]>} */
  const links = new Map();
  for (const [path, methods] of Object.entries(description.paths)) {
    for (const [method, operation] of Object.entries(/** @type {Record<string, Operation>} */ (methods))) {
      const tag = operation.tags?.[0] ?? "other";
      const id = `${method}${path}`;
      groups.set(tag, [...(groups.get(tag) ?? []), route(path, method, operation, id)]);
      if (method === "get") links.set(tag, [...(links.get(tag) ?? []), element("a", { href: `#${encodeURIComponent(id)}` }, path.replace(/^\/(api|optimade)\//, ""))]);
    }
  }
  const order = ["questions", "uploads", "store", "sql"];
  const rank = (/** @type {string} */ tag) => (order.indexOf(tag) + 1 || 99);
  const tags = [...groups.keys()].sort((a, b) => rank(a) - rank(b));
  const title = (/** @type {string} */ tag) => tag[0].toUpperCase() + tag.slice(1);
  document.getElementById("routes")?.replaceChildren(
    ...tags.flatMap((tag) => [element("h2", {}, title(tag)), ...(groups.get(tag) ?? [])]));
  document.getElementById("index")?.replaceChildren(
    ...tags.flatMap((tag) => [element("h3", {}, title(tag)), ...(links.get(tag) ?? [])]));
  openTarget();
  addEventListener("hashchange", openTarget);
}

main();
