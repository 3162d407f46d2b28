// The cockpit: one card for each thing an operator watches, what is wrong first. Component Monitor
// is the first card.

import { actionButton, may } from "./actions.js";
import { h, replace } from "./dom.js";
import { absolute, duration, now, number, plural, shortKid, words } from "./format.js";
import { icon } from "./icons.js";
import { live } from "./live.js";
import { logSearch } from "./log_search.js";
import { pageHead } from "./page.js";
import { ago, badge, card, copyButton, statusBadge, statusIcon } from "./parts.js";
import { receiptBadge } from "./receipt.js";
import { isMisused, misuseBadge, recoveryBar, recoveryWords } from "./recovery_parts.js";
import { openRotate } from "./rotate.js";
import { href } from "./router.js";
import { read, subscribe } from "./store.js";

/** Draws the overview. */
export function homeView({ main, signal }) {
  const monitor = h("div", { class: "stack" });
  const showMonitor = (status) => replace(monitor, componentMonitor(status));
  subscribe("status", showMonitor, signal);
  if (read("status")) showMonitor(read("status"));
  else monitor.append(h("p", { class: "muted" }, "Waiting for the first status…"));

  const region = (options) => live({ signal, ...options }).region;
  main.append(
    pageHead("Overview", "What this gateway is doing, and whether somebody has to do something."),
    h(
      "div",
      { class: "cockpit" },
      card("Component Monitor", { iconName: "components", link: href("components"), className: "wide", testid: "card-components", aside: h("a", { class: "small", href: href("components") }, "All components") }, monitor),
      card(
        "Signing keys",
        { iconName: "key", link: href("keys"), testid: "card-keys", aside: rotateButton() },
        region({ path: "/keys", draw: keysCard, every: 15_000, on: ["keys"] }),
      ),
      card("Purges", { iconName: "purge", link: href("purges"), testid: "card-purges" }, region({ path: "/keys/purges", draw: purgesCard, every: 15_000, on: ["purge", "keys"] })),
      card("Clients", { iconName: "clients", link: href("clients"), testid: "card-clients" }, region({ path: "/clients?limit=1000", draw: clientsCard, every: 20_000, on: ["clients"] })),
      card("Audit", { iconName: "audit", link: href("audit"), testid: "card-audit" }, forOperators("The audit", () => region({ path: "/audit?limit=3", draw: auditCard, on: ["keys"] }))),
      card("Find a Log ID", { iconName: "logs", link: href("logs"), testid: "card-logs", className: "full" }, forOperators("The log", () => [logSearch(), h("p", { class: "muted small" }, "Every error answer of this gateway names one. It leads to the line that says why.")])),
    ),
  );
}

function rotateButton() {
  return actionButton("Rotate…", { iconName: "rotate", kind: "small", needs: "operator", key: "rotate", onClick: () => openRotate() });
}

function forOperators(what, draw) {
  return may("operator") ? draw() : h("p", { class: "muted row" }, icon("lock"), `${what} is for operators; you are signed in as ${read("session").role}.`);
}

function componentMonitor(status) {
  const count = (kind) => status.components.filter((component) => component.status === kind).length;
  const tally = ["error", "warning", "ok"].map((kind) =>
    h("div", { class: count(kind) ? null : "zero" }, icon(kind, `status-${kind}`), h("span", { class: "n" }, number(count(kind))), h("span", {}, { error: "Error", warning: "Warning", ok: "OK" }[kind])),
  );
  const shown = status.components.slice(0, 5);
  return [
    h("div", { class: "row" }, statusBadge(status.overall), h("span", { class: "muted small" }, `running for ${duration(now() - Date.parse(status.started_at))}`)),
    h("div", { class: "tally" }, tally),
    h(
      "ul",
      { class: "mini-list" },
      shown.map((component) =>
        h(
          "li",
          {},
          h("span", {}, statusIcon(component.status)),
          h("span", {}, h("a", { href: href("components", component.id) }, component.name), component.status !== "ok" && h("span", { class: "small muted" }, `: ${component.reason}`)),
          h("span", { class: "muted small nowrap" }, ago(component.since)),
        ),
      ),
    ),
    status.components.length > shown.length && h("p", { class: "small muted" }, `and ${status.components.length - shown.length} more, all of them no worse`),
  ];
}

function keysCard(set) {
  const active = set.keys.find((key) => key.state === "active");
  const deprecated = set.keys.filter((key) => key.state === "deprecated").length;
  return [
    h("div", {}, h("div", { class: "muted small" }, "Signing now"), h("div", { class: "row" }, h("span", { class: "kid", title: active.kid }, shortKid(active.kid)), copyButton(active.kid, "the active key's name"), h("span", { class: "muted small" }, active.alg))),
    h("div", {}, h("span", { class: "figure" }, duration(now() - Date.parse(active.activated_at))), " ", h("span", { class: "muted" }, "in use")),
    h("p", { class: "muted small" }, set.schedule_paused ? "Automatic rotation is paused. " : ["Next automatic rotation ", ago(set.next_rotation_at), ". "], `${plural(deprecated, "older key")} still ${deprecated === 1 ? "verifies" : "verify"}.`),
  ];
}

function purgesCard({ purges }) {
  if (purges.length === 0) {
    return h("p", { class: "muted" }, "No purge is remembered. A purge ends keys at once, for when one may have leaked; its recovery shows here.");
  }
  const [last] = purges;
  return [
    purges.filter(isMisused).map((purge) => h("div", { class: "row" }, misuseBadge(purge), h("a", { href: href("purges", purge.purge_id) }, "Its purge"))),
    h("div", { class: "row" }, receiptBadge(last), h("a", { href: href("purges", last.purge_id) }, "Latest purge"), h("span", { class: "muted small" }, ago(last.committed_at))),
    recoveryBar(last.recovery),
    h("p", { class: "muted small" }, recoveryWords(last.recovery)),
  ];
}

function clientsCard(list) {
  const failing = (list.clients ?? []).filter((client) => client.last_failure_at && now() - Date.parse(client.last_failure_at) < 300_000);
  return [
    h("div", {}, h("span", { class: "figure" }, number(list.enabled)), " ", h("span", { class: "muted" }, "enabled"), list.disabled > 0 && h("span", { class: "muted" }, `, ${number(list.disabled)} disabled`)),
    list.clients && h("p", { class: "muted small" }, failing.length === 0 ? "None was refused in the last five minutes." : `Refused in the last five minutes: ${failing.slice(0, 3).map((client) => client.id).join(", ")}${failing.length > 3 ? " …" : ""}`),
  ];
}

function auditCard(audit) {
  return [
    audit.verified ? badge("ok", "ok", "chain verified") : badge("error", "error", "chain broken"),
    h(
      "ul",
      { class: "mini-list small" },
      audit.records.slice(0, 3).map((record) => h("li", {}, h("span", { class: "muted" }, `#${record.revision}`), h("span", {}, words(record.event)), h("span", { class: "muted nowrap", title: absolute(record.at) }, ago(record.at)))),
    ),
  ];
}
