// Clients: who may ask for tokens, when each was last seen or refused, and what can be done to it.

import { actionButton, may, menuButton } from "./actions.js";
import { get } from "./api.js";
import { addClient, changeClient, rotateSecret, VERBS } from "./client_dialogs.js";
import { clientView } from "./view_client.js";
import { h, replace } from "./dom.js";
import { number, plural } from "./format.js";
import { live } from "./live.js";
import { pageHead } from "./page.js";
import { badge, card, empty, table, tile, when } from "./parts.js";
import { href } from "./router.js";

const PAGE = 200;
/** The most that the gateway gives at once. */
const MOST = 1000;

/** Draws the list, or the client that the address names. */
export function clientsView(page) {
  if (page.parts.length) return clientView(page);
  const { main, signal } = page;
  // The sums and the filter stand outside of what is drawn anew: whoever types goes on typing.
  const sums = h("dl", { class: "tiles" });
  const filter = h("input", { class: "input", type: "search", placeholder: "Filter by name", "aria-label": "Filter clients by name", "data-key": "client-filter", maxlength: "128", hidden: true });
  const wanted = () => filter.value.trim().toLowerCase();
  let shown = PAGE;

  const view = live({ load, every: 15_000, on: ["clients"], signal, draw });
  filter.addEventListener("input", () => {
    shown = PAGE;
    view.redraw();
    // The gateway cannot search by name, so the rest is fetched and searched here.
    if (view.answer()?.next) view.look();
  });

  /** As many as are shown; all of them while there is a filter. */
  async function load(options) {
    const limit = wanted() ? MOST : Math.min(shown, MOST);
    const list = await get(`/clients?limit=${limit}`, options);
    while (list.next && (wanted() || list.clients.length < shown)) {
      const more = await get(`/clients?limit=${limit}&after=${encodeURIComponent(list.next)}`, options);
      list.clients.push(...more.clients);
      list.next = more.next;
    }
    return list;
  }

  function draw(list) {
    replace(sums, tiles(list));
    filter.hidden = !list.clients?.length;
    if (!list.clients) return empty("lock", "Names are for operators", "A viewer sees how many clients there are, not who they are.");
    if (list.clients.length === 0) return empty("clients", "No clients yet", "Add one here, or under `clients` in the configuration. It then asks POST /oauth2/token for its access tokens.");
    const found = list.clients.filter((client) => client.id.toLowerCase().includes(wanted()));
    const looking = wanted() && list.next && h("p", { class: "muted row" }, h("span", { class: "spinner", "aria-hidden": "true" }), "Looking through all clients…");
    if (found.length === 0) return looking || empty("search", "No client of that name", `None of ${plural(list.clients.length, "client")} has it in its name.`);
    const more = found.length > shown || (list.next && !wanted());
    return [
      clientTable(found.slice(0, shown), view.look),
      looking,
      more && h("div", { class: "more" }, h("button", { type: "button", class: "button small", "data-key": "more", on: { click: showMore } }, "Show more clients")),
    ];
  }

  function showMore() {
    shown += PAGE;
    view.redraw();
    view.look();
  }

  main.append(
    pageHead("Clients", "Who may ask for access tokens. Disable and Invalidate take effect on the very next request.", actionButton("Add client", { iconName: "plus", kind: "primary", needs: "admin", key: "add-client", onClick: () => addClient(view.look) })),
    sums,
    card("Clients", { aside: h("div", {}, filter), flush: true, testid: "clients" }, view.region),
  );
}

function tiles(list) {
  const known = list.clients ?? [];
  const live = known.some((client) => typeof client.live_tokens === "number") ? known.reduce((sum, client) => sum + (client.live_tokens ?? 0), 0) : null;
  return [
    tile("Enabled", number(list.enabled)),
    tile("Disabled", number(list.disabled)),
    live !== null && !list.next && tile("Live tokens", number(live), "at most"),
  ];
}

function clientTable(clients, refresh) {
  return table(
    "Clients",
    [
      { title: "Client", className: "lead", cell: (client) => h("a", { href: href("clients", client.id), "data-key": `client-${client.id}` }, client.id) },
      { title: "State", cell: clientState },
      { title: "Scopes", cell: (client) => (client.scopes.length ? h("span", { class: "mono small" }, client.scopes.join(" ")) : h("span", { class: "muted" }, "none")) },
      { title: "Live tokens", className: "num", cell: (client) => number(client.live_tokens) },
      { title: "Last seen", cell: (client) => when(client.last_seen_at, { none: "not since the start" }) },
      { title: "Last failure", cell: lastFailure },
      { title: "", className: "actions", cell: (client) => clientMenu(client, refresh) },
    ],
    clients,
    { key: (client) => client.id },
  );
}

/** Enabled or disabled, and where it comes from. */
export function clientState(client) {
  const origin = { static: "configuration", dynamic: "store", gone: "unknown by now" }[client.source] ?? client.source;
  return [client.state === "enabled" ? badge("ok", "ok", "enabled") : badge("error", "ban", "disabled"), h("div", { class: "small muted" }, origin)];
}

function lastFailure(client) {
  if (!client.last_failure_at) return h("span", { class: "muted" }, "none");
  return [when(client.last_failure_at), client.last_failure_reason && h("div", { class: "small" }, client.last_failure_reason)];
}

/** What can be done to a client. Secrets of the configuration's clients are changed there. */
export function clientMenu(client, refresh) {
  const fixed = client.source === "dynamic" ? null : "Its secret is in the configuration; change it there.";
  const item = (verb, why = null) => ({ label: VERBS[verb].label, iconName: VERBS[verb].iconName, danger: VERBS[verb].danger, needs: "admin", why: may("admin") ? why : null, onClick: () => changeClient(client, verb, refresh) });
  return menuButton(
    h("span", {}, "Actions", h("span", { class: "visually-hidden" }, ` for ${client.id}`)),
    [
      client.state === "enabled" ? item("disable") : item("enable"),
      item("invalidate"),
      { label: "Rotate secret…", iconName: "rotate", needs: "admin", why: may("admin") ? fixed : null, onClick: () => rotateSecret(client, refresh) },
      item("drop-old-secret", fixed ?? (client.secrets_created_at.length < 2 ? "It has only one secret." : null)),
      item("remove", fixed),
    ],
    { kind: "small", key: `menu-${client.id}` },
  );
}
