// The recovery board of one purge: what is still open, whom it broke, who is back, who still fails
// and why, failures over time.

import { may } from "./actions.js";
import { h } from "./dom.js";
import { failuresChart } from "./failures_chart.js";
import { number } from "./format.js";
import { icon } from "./icons.js";
import { live } from "./live.js";
import { pageHead } from "./page.js";
import { ago, badge, card, empty, fold, fullKid, table, tile, when } from "./parts.js";
import { isOver, receiptBadge, receiptList } from "./receipt.js";
import { isMisused, misuseAlarm, recoveryBar, recoveryWords, stillOut } from "./recovery_parts.js";
import { href } from "./router.js";

const PAGE = 200;

/** Draws the board of the purge that the address names. */
export function purgeView({ main, parts, signal }) {
  const [id] = parts;
  let limit = PAGE;
  const view = live({
    path: () => `/keys/purges/${encodeURIComponent(id)}?limit=${limit}`,
    every: (purge) => (purge && isOver(purge) && purge.recovery.recovered === purge.recovery.affected ? 10_000 : 2000),
    on: ["purge"],
    signal,
    draw: (purge) => board(purge, more),
  });
  function more() {
    limit = Math.min(1000, limit + PAGE);
    view.look();
  }
  main.append(h("a", { class: "row small", href: href("purges") }, icon("back"), "All purges"), pageHead("Recovery board", "Who is back after this purge, and who is not."), view.region);
}

function board(purge, more) {
  const recovery = purge.recovery;
  const out = stillOut(recovery);
  return [
    isMisused(purge) && misuseAlarm(purge),
    h(
      "dl",
      { class: "tiles", "data-testid": "recovery" },
      tile("Affected clients", h("span", { "data-testid": "affected" }, number(recovery.affected)), "refused because of this purge"),
      tile("With a new token", h("span", { "data-testid": "got-new-token" }, number(recovery.got_new_token))),
      tile("Back", h("span", { "data-testid": "recovered" }, number(recovery.recovered)), "accepted again after their last failure"),
      tile("Still out", h("span", { "data-testid": "still-out" }, number(out)), out ? "neither a new token nor accepted" : "nobody", out ? "error" : ""),
      tile("Failures", h("span", { "data-testid": "failures" }, number(recovery.failures)), recovery.unlisted_failures ? `${number(recovery.unlisted_failures)} of clients beyond the list` : "requests refused"),
    ),
    h("div", { class: "stack-s" }, recoveryBar(recovery), h("p", { class: "small muted" }, recoveryWords(recovery))),
    clients(purge, more),
    h(
      "div",
      { class: "board" },
      card("Failures over time", {}, failures(purge)),
      card("Receipt", { aside: receiptBadge(purge), testid: "receipt" }, receiptList(purge)),
    ),
    purged(purge),
  ];
}

function purged(purge) {
  return fold(
    "purged-keys",
    `Purged keys (${number(purge.kids.length)})`,
    h(
      "div",
      { class: "body stack-s" },
      h("ul", { class: "stack-s" }, purge.kids.map((one) => h("li", {}, fullKid(one)))),
      h("p", { class: "small muted" }, "Purge ", h("span", { class: "mono" }, purge.purge_id)),
    ),
  );
}

function failures(purge) {
  const series = purge.failures_over_time;
  if (!series || series.buckets.length === 0) {
    return empty("ok", "No failure so far", "A bar appears here for every moment in which the purge made a request fail.");
  }
  return failuresChart(series);
}

function clients(purge, more) {
  const list = purge.recovery.clients;
  if (!list) {
    return card("Clients", {}, empty("lock", may("operator") ? "No names here" : "Names are for operators", "A viewer sees the sums. Who uses the services is not for every pair of eyes."));
  }
  if (list.length === 0) {
    return card("Clients", {}, empty("clients", "Nobody was refused so far", "A client shows here with its first request that this purge made fail."));
  }
  const order = (client) => (client.recovered_at ? 2 : client.new_token_at ? 1 : 0);
  const rows = [...list].sort((a, b) => order(a) - order(b) || a.client_id.localeCompare(b.client_id));
  return card(
    "Clients",
    { flush: true, testid: "board-clients" },
    table(
      "Clients that this purge broke",
      [
        { title: "Client", className: "lead", cell: (client) => h("a", { href: href("clients", client.client_id) }, client.client_id) },
        { title: "State", cell: (client) => clientState(client) },
        { title: "First failure", cell: (client) => when(client.first_failure_at) },
        { title: "Last failure", cell: (client) => when(client.last_failure_at) },
        { title: "New token", cell: (client) => ago(client.new_token_at) },
        { title: "Back", cell: (client) => ago(client.recovered_at) },
        { title: "Failures", className: "num", cell: (client) => number(client.failures) },
      ],
      rows,
      { className: "dense", key: (client) => client.client_id },
    ),
    purge.recovery.next_after && h("div", { class: "more" }, h("button", { type: "button", class: "button small", "data-key": "more", on: { click: more } }, "Show more clients")),
  );
}

/** Back, on its way, or out and why. */
function clientState(client) {
  if (client.recovered_at && !client.still_failing) return badge("ok", "ok", "back");
  const why = client.last_failure_reason && h("div", { class: "cause small muted" }, client.last_failure_reason);
  if (client.new_token_at) return [badge("info", "clock", "new token"), why];
  return [badge("error", "error", "still fails"), why ?? h("div", { class: "cause small muted" }, "It has not fetched a new token yet.")];
}
