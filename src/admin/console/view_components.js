// Component Monitor: every component with its status, why and since when, error and warning first;
// beside the list the selected one with its facts, its endpoints and, where it has some, its keys.

import { h, isBusy, replace } from "./dom.js";
import { words } from "./format.js";
import { icon } from "./icons.js";
import { keysPanel } from "./keys_panel.js";
import { pageHead } from "./page.js";
import { ago, card, empty, facts, statusBadge, statusIcon, table, when } from "./parts.js";
import { href } from "./router.js";
import { read, subscribe } from "./store.js";

const KINDS = { gateway: "Gateway", key_store: "Key store", issuer: "Issuer", scheduler: "Scheduler", upstream: "Upstream" };
const WITH_KEYS = ["issuer", "key_store"];

/** Draws the monitor; the first part of the address selects a component. */
export function componentsView({ main, parts, signal }) {
  const list = h("ul", { class: "component-list" });
  const overall = h("span", {});
  const about = h("div", { class: "stack" });
  const keys = h("div", { class: "stack" });
  let text = null;
  let keysOf = null;

  function show(status) {
    const next = JSON.stringify(status.components);
    if (next === text) return;
    text = next;
    const selected = status.components.find((component) => component.id === parts[0]) ?? preferred(status.components);
    replace(overall, statusBadge(status.overall));
    replace(list, status.components.map((component) => item(component, component === selected)));
    if (!isBusy(about)) replace(about, detail(selected));
    // The panel keeps itself fresh; it is made once.
    const wanted = WITH_KEYS.includes(selected.kind) ? selected.id : null;
    if (wanted !== keysOf) {
      keysOf = wanted;
      replace(keys, wanted && keysPanel(signal));
    }
  }

  main.append(
    pageHead("Component Monitor", "What this gateway is made of, live. What is wrong stands first.", overall),
    h("div", { class: "master-detail" }, h("section", { class: "card", "aria-label": "Components" }, list), h("div", { class: "stack", "data-testid": "component" }, about)),
    keys,
  );
  subscribe("status", show, signal);
  if (read("status")) show(read("status"));
  else replace(about, empty("clock", "Waiting for the first status", "It comes with the live stream."));
}

/** What is wrong before all; else the issuer, for its keys. */
function preferred(components) {
  return components[0].status === "ok" ? (components.find((component) => component.kind === "issuer") ?? components[0]) : components[0];
}

function item(component, selected) {
  return h(
    "li",
    {},
    h(
      "a",
      { href: href("components", component.id), "aria-current": selected ? "true" : null, "data-key": `component-${component.id}` },
      statusIcon(component.status),
      h("span", { class: "name" }, component.name),
      h("span", { class: "ago" }, ago(component.since)),
      h("span", { class: "why" }, component.reason),
    ),
  );
}

function detail(component) {
  const pairs = Object.entries(component.facts ?? {});
  return card(
    component.name,
    { aside: statusBadge(component.status) },
    h(
      "div",
      { class: "stack" },
      h("div", { class: "headline" }, icon(component.status, `status-${component.status}`), h("div", {}, h("p", { class: "reason" }, component.reason), h("p", { class: "muted small" }, "since ", when(component.since, { inline: true })))),
      facts(["Kind", KINDS[component.kind] ?? component.kind], ...pairs.map(([name, value]) => [words(name), String(value)])),
      component.endpoints && endpoints(component.endpoints),
    ),
  );
}

function endpoints(list) {
  return h(
    "div",
    { class: "stack-s" },
    h("h3", {}, "Endpoints"),
    table(
      "Endpoints of this upstream",
      [
        { title: "Address", className: "lead", cell: (endpoint) => h("span", { class: "mono" }, endpoint.address) },
        { title: "Status", cell: (endpoint) => statusBadge(endpoint.status) },
        { title: "Why", className: "wide", cell: (endpoint) => endpoint.reason },
        { title: "Since", cell: (endpoint) => when(endpoint.since) },
      ],
      list,
      { className: "dense" },
    ),
  );
}
