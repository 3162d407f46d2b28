// The small pieces that views are put together from.

import { announce, h, uid } from "./dom.js";
import { absolute, relative, shortKid } from "./format.js";
import { icon } from "./icons.js";
import { href } from "./router.js";

const STATUS = { ok: "OK", warning: "Warning", error: "Error" };
const KEY_STATES = {
  active: ["accent", "key"],
  pending: ["", "clock"],
  deprecated: ["info", "done"],
  retired: ["", "ban"],
  purged: ["error", "purge"],
};

/** A word with a colour and an icon, so that the colour is never alone. */
export function badge(kind, iconName, text) {
  return h("span", { class: `badge ${kind}` }, icon(iconName), text);
}

/** OK, Warning or Error. */
export function statusBadge(status) {
  return badge(status, status, STATUS[status] ?? "Unknown");
}

/** The same as an icon with a name for screen readers. */
export function statusIcon(status) {
  return [icon(status, `status-${status}`), h("span", { class: "visually-hidden" }, `${STATUS[status] ?? "Unknown"}: `)];
}

/** The state of a signing key. */
export function keyState(state) {
  const [kind, name] = KEY_STATES[state] ?? ["", "unknown"];
  return badge(kind, name, state);
}

/** Copies `text`; says so by icon and to screen readers. */
export function copyButton(text, what) {
  const button = h(
    "button",
    { type: "button", class: "copy", "aria-label": `Copy ${what}`, title: `Copy ${what}`, "data-key": `copy-${text}` },
    icon("copy"),
  );
  button.addEventListener("click", async () => {
    const done = await copy(text);
    button.replaceChildren(icon(done ? "done" : "close"));
    button.toggleAttribute("data-done", done);
    announce(done ? `Copied ${what}` : `The browser did not allow copying ${what}`);
    setTimeout(() => {
      button.replaceChildren(icon("copy"));
      button.removeAttribute("data-done");
    }, 1600);
  });
  return button;
}

async function copy(text) {
  try {
    // Not there without a secure context (plain HTTP on another machine).
    await navigator.clipboard.writeText(text);
    return true;
  } catch (_not_allowed) {
    const area = h("textarea", { class: "visually-hidden", "aria-hidden": "true" });
    area.value = text;
    const place = document.querySelector("dialog[open]") ?? document.body;
    place.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

/** A key's name, shortened, with the whole one a click away. */
export function kid(value) {
  return h("span", { class: "nowrap" }, h("span", { class: "kid", title: value }, shortKid(value)), copyButton(value, `key name ${shortKid(value)}`));
}

/** A key's whole name. */
export function fullKid(value) {
  return h("span", {}, h("span", { class: "kid-full" }, value), " ", copyButton(value, `key name ${shortKid(value)}`));
}

/** A time, relative and absolute; the relative half keeps itself fresh. `none` stands for no time. */
export function when(iso, { none = "–", inline = false } = {}) {
  if (!iso) return h("span", { class: "muted" }, none);
  return h(
    "time",
    { class: inline ? "when inline" : "when", datetime: iso, title: `${absolute(iso)}; here ${new Date(iso).toLocaleString()}` },
    h("span", { class: "rel", "data-rel": iso }, relative(iso)),
    inline ? " (" : "",
    h("span", { class: "abs" }, inline ? absolute(iso) : absolute(iso).replace(" UTC", "")),
    inline ? ")" : "",
  );
}

/** The relative half alone. */
export function ago(iso) {
  return iso ? h("time", { class: "rel", datetime: iso, "data-rel": iso, title: absolute(iso) }, relative(iso)) : "–";
}

/** Freshens every relative time on the page. */
export function tickTimes() {
  for (const node of document.querySelectorAll("[data-rel]")) {
    const text = relative(node.dataset.rel);
    if (node.textContent !== text) node.textContent = text;
  }
}

/** A box with a heading; `aside` stands beside it. */
export function card(title, { iconName = null, aside = null, footer = null, level = "h2", className = "", flush = false, link = null, testid = null } = {}, ...body) {
  const heading = h(level, { class: "row" }, iconName && icon(iconName), link ? h("a", { href: link }, title) : title);
  return h(
    "section",
    { class: `card ${className}`.trim(), "data-testid": testid },
    h("header", {}, heading, aside),
    flush ? body : h("div", { class: "body" }, body),
    footer && h("footer", {}, footer),
  );
}

/** Something to be noticed: info, ok, warning or error. */
export function alertBox(kind, title, ...body) {
  return h("div", { class: `alert ${kind}` }, icon(kind), h("div", {}, h("p", { class: "title" }, title), body));
}

/** What is shown instead of nothing: why it is empty, and what would fill it. */
export function empty(iconName, title, ...body) {
  return h("div", { class: "empty" }, icon(iconName), h("p", { class: "title" }, title), body.map((text) => h("p", {}, text)));
}

/** An error of the API, with its Log ID as a link to the log's entries. */
export function problemBox(title, error, ...more) {
  const lines = [h("p", {}, withLogLink(error.detail, error.logId))];
  if (error.rule) lines.push(h("p", {}, error.rule));
  if (error.logId && !error.detail.includes(error.logId)) {
    lines.push(h("p", {}, "Log ID: ", logLink(error.logId)));
  }
  const box = alertBox("error", title, lines, more);
  box.setAttribute("role", "alert");
  return box;
}

/** A sentence whose Log ID, if it names one, leads to the log's entries. */
function withLogLink(text, logId) {
  const at = logId ? text.indexOf(logId) : -1;
  if (at < 0) return text;
  return [text.slice(0, at), logLink(logId), text.slice(at + logId.length)];
}

/** A Log ID that opens its entries. */
export function logLink(logId) {
  return h("a", { class: "mono", href: href("logs", logId), "data-testid": "log-link" }, logId);
}

/** A list of names and values; a pair without a value is left out. */
export function facts(...pairs) {
  return h(
    "dl",
    { class: "facts" },
    pairs.filter((pair) => pair && pair[1] !== null && pair[1] !== undefined).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]),
  );
}

/** A number with its name. */
export function tile(name, value, hint = null, kind = "") {
  return h("div", { class: `tile ${kind}`.trim() }, h("dt", {}, name), h("dd", {}, value, hint && h("div", { class: "hint" }, hint)));
}

/** A table; a column is `{ title, cell, className }`. Roles are spelt out: on narrow screens the
    style sheet takes the table's own away. */
export function table(caption, columns, rows, { className = "", key = null } = {}) {
  const head = columns.map((column) => h("th", { scope: "col", role: "columnheader", class: column.className }, column.title || h("span", { class: "visually-hidden" }, "Actions")));
  const body = rows.map((row) =>
    h(
      "tr",
      { role: "row", "data-row": key ? key(row) : null },
      columns.map((column) => h("td", { role: "cell", class: column.className, "data-label": column.title }, h("div", {}, column.cell(row)))),
    ),
  );
  const inner = h(
    "table",
    { class: `table ${className}`.trim(), role: "table" },
    h("caption", { class: "visually-hidden" }, caption),
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, head)),
    h("tbody", { role: "rowgroup" }, body),
  );
  return scrollable(caption, inner);
}

/** Room for a table that scrolls sideways where it is too wide; by keyboard as well then. */
export function scrollable(name, inner) {
  const wrap = h("div", { class: "table-wrap" }, inner);
  const observer = new ResizeObserver(() => {
    const scrolls = wrap.scrollWidth > wrap.clientWidth;
    for (const [attribute, value] of [["tabindex", "0"], ["role", "region"], ["aria-label", name]]) {
      if (scrolls) wrap.setAttribute(attribute, value);
      else wrap.removeAttribute(attribute);
    }
  });
  observer.observe(wrap);
  observer.observe(inner);
  return wrap;
}

/** Something folded away that stays as the reader left it; `key` names it. */
export function fold(key, title, ...body) {
  return h("details", { class: "card fold", "data-key": key }, h("summary", { "data-key": `${key}-summary` }, icon("chevron"), title), body);
}

/** A labelled input with a help text. */
export function field(label, input, help) {
  const id = (input.id ||= uid("field"));
  const note = help && h("p", { class: "help", id: `${id}-help` }, help);
  if (note) input.setAttribute("aria-describedby", note.id);
  return h("div", { class: "field" }, h("label", { for: id }, label), input, note);
}

/** A check-box with a label and a help text. */
export function choice(label, input, help) {
  const id = (input.id ||= uid("choice"));
  const note = help && h("p", { class: "help", id: `${id}-help` }, help);
  if (note) input.setAttribute("aria-describedby", note.id);
  return h("div", { class: "choice" }, input, h("label", { for: id }, label), note);
}

/** A message in the corner that goes away by itself; screen readers are told as well. */
export function toast(text) {
  const node = h("div", { class: "toast" }, text);
  document.getElementById("toasts").append(node);
  announce(text);
  setTimeout(() => node.remove(), 5000);
}
