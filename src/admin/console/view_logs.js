// Log entries by Log ID, from the gateway's short memory of warnings and errors; without an ID the
// newest of them.

import { may } from "./actions.js";
import { h } from "./dom.js";
import { absolute, number } from "./format.js";
import { live } from "./live.js";
import { logSearch } from "./log_search.js";
import { pageHead } from "./page.js";
import { badge, card, copyButton, empty, logLink, when } from "./parts.js";
import { href } from "./router.js";

/** Draws the page; the first part of the address is a Log ID. */
export function logsView({ main, parts, signal }) {
  const [id] = parts;
  main.append(pageHead("Logs", "Every error answer names a Log ID. It leads to the entry that says what really happened."));
  if (!may("operator")) {
    main.append(card("Logs", {}, empty("lock", "The log is for operators", "Sign in with a token of the role operator or admin.")));
    return;
  }
  main.append(card("Find a Log ID", { testid: "log-search" }, logSearch(id ?? "")));
  const view = id
    ? live({ path: `/logs/${encodeURIComponent(id)}`, signal, draw: entries })
    : live({ path: "/logs?limit=100", every: 5000, signal, draw: newest });
  main.append(view.region);
}

function entries({ log_id: id, lines }) {
  return card(
    lines.length === 1 ? "One entry" : `${number(lines.length)} entries`,
    { aside: [h("span", { class: "mono small" }, id), copyButton(id, "the Log ID"), h("a", { class: "small", href: href("logs") }, "Newest entries")], flush: true, testid: "log-lines" },
    h("div", { class: "log-lines" }, lines.map((line) => entry(line, true))),
  );
}

function newest({ lines }) {
  return card(
    "Newest warnings and errors",
    { flush: true, testid: "log-lines" },
    lines.length === 0 ? empty("ok", "Nothing to report", "Warnings and errors since the start show here. The whole log goes to standard error of the process.") : h("div", { class: "log-lines" }, grouped(lines).map((group) => entry(group[0], false, group))),
  );
}

/** Entries one after the other that differ in no more than when they were written, and by whose
    Log ID, as one. */
function grouped(lines) {
  const groups = [];
  let before = null;
  for (const line of lines) {
    const text = JSON.stringify({ ...line, time: null, log_id: null });
    if (text === before) groups.at(-1).push(line);
    else groups.push([line]);
    before = text;
  }
  return groups;
}

/** The same entry at other times. */
function others(group) {
  const oldest = group.at(-1);
  return h(
    "details",
    { class: "small", "data-key": `same-${oldest.log_id ?? oldest.time}` },
    h("summary", { class: "muted" }, "The same since ", when(oldest.time, { inline: true })),
    h("ul", {}, group.slice(1).map((line) => h("li", { class: "row" }, h("span", { class: "nowrap" }, absolute(line.time)), line.log_id && logLink(line.log_id)))),
  );
}

const HEAD = ["time", "level", "message", "event", "log_id"];

function entry(line, whole, group = [line]) {
  const level = String(line.level ?? "").toLowerCase();
  const kind = level === "error" ? "error" : level.startsWith("warn") ? "warning" : "info";
  const fields = Object.entries(line).filter(([name, value]) => !HEAD.includes(name) && value !== null);
  return h(
    "article",
    { class: "log-line" },
    h("div", { class: "row" }, badge(kind, kind, level || "info"), h("span", { class: "mono small" }, line.event ?? ""), when(line.time, { inline: true }), group.length > 1 && h("strong", { "data-testid": "times" }, `× ${number(group.length)}`), whole && copyButton(JSON.stringify(line), "this entry as JSON")),
    h("p", { class: "msg" }, line.message ?? ""),
    fields.length > 0 && h("dl", {}, fields.map(([name, value]) => [h("dt", {}, name), h("dd", {}, typeof value === "string" ? value : JSON.stringify(value))])),
    !whole && line.log_id && h("p", { class: "small muted" }, "Log ID ", logLink(line.log_id)),
    group.length > 1 && others(group),
  );
}
