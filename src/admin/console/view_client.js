// One client: its facts, its secrets' ages, and its last changes.

import { h } from "./dom.js";
import { actor, duration, number, words } from "./format.js";
import { icon } from "./icons.js";
import { live } from "./live.js";
import { pageHead } from "./page.js";
import { card, empty, facts, table, when } from "./parts.js";
import { href } from "./router.js";
import { clientMenu, clientState } from "./view_clients.js";

/** Draws the client that the address names. */
export function clientView({ main, parts, signal }) {
  const [id] = parts;
  const view = live({ path: `/clients/${encodeURIComponent(id)}`, every: 10_000, on: ["clients"], signal, draw: (client) => draw(client, () => view.look()) });
  main.append(h("a", { class: "row small", href: href("clients") }, icon("back"), "All clients"), pageHead(id, "A client of this issuer."), view.region);
}

function draw(client, refresh) {
  return [
    card(
      "Client",
      { aside: clientMenu(client, refresh) },
      facts(
        ["State", clientState(client)],
        ["Scopes", client.scopes.length ? h("span", { class: "mono" }, client.scopes.join(" ")) : "none"],
        ["Token life time", client.token_ttl_seconds ? duration(client.token_ttl_seconds * 1000) : null],
        ["Live tokens", client.live_tokens === undefined ? null : `at most ${number(client.live_tokens)}`],
        ["Last seen", when(client.last_seen_at, { none: "not since the start" })],
        ["Last failure", client.last_failure_at ? [when(client.last_failure_at, { inline: true }), client.last_failure_reason && `: ${client.last_failure_reason}`] : "none"],
        ["Disabled", client.disabled_at ? when(client.disabled_at, { inline: true }) : null],
        ["Tokens refused that are older than", client.tokens_not_before ? when(client.tokens_not_before, { inline: true }) : null],
        ["Secrets made", client.secrets_created_at.length ? client.secrets_created_at.map((at) => h("div", {}, when(at, { inline: true }))) : null],
        ["Note", client.shadows_dynamic ? "The store has a client of this name as well; the configuration's wins." : null],
      ),
    ),
    card(
      "Changes",
      { flush: true },
      client.history.length === 0
        ? empty("audit", "Nothing was done to it", "Disabling, invalidating and new secrets show here, with who did it and why.")
        : table(
            "Changes to this client, newest first",
            [
              { title: "When", className: "lead", cell: (event) => when(event.at) },
              { title: "What", cell: (event) => words(event.action) },
              { title: "Who", cell: (event) => actor(event.actor) },
              { title: "Why", className: "wide", cell: (event) => event.reason ?? h("span", { class: "muted" }, "no reason given") },
            ],
            client.history,
            { className: "dense" },
          ),
    ),
  ];
}
