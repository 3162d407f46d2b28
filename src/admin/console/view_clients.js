// Clients: who may ask for tokens, when each was last seen or refused, and what can be done to it.

import { actionButton, may, menuButton } from "./actions.js";
import { get } from "./api.js";
import { addClient, changeClient, rotateSecret, VERBS } from "./client_dialogs.js";
import { clientView } from "./view_client.js";
import { h, replace } from "./dom.js";
import { number } from "./format.js";
import { live } from "./live.js";
import { pageHead } from "./page.js";
import { badge, card, empty, problemBox, table, tile, when } from "./parts.js";
import { href } from "./router.js";

const PAGE = 200;

/** Draws the list, or the client that the address names. */
export function clientsView(page) {
  if (page.parts.length) return clientView(page);
  const { main, signal } = page;
  const filter = h("input", { class: "input", type: "search", placeholder: "Filter by name", "aria-label": "Filter clients by name", "data-key": "client-filter", maxlength: "128" });
  let rest = [];
  let next = null;

  const view = live({ path: `/clients?limit=${PAGE}`, every: 15_000, on: ["clients"], signal, draw });
  filter.addEventListener("input", () => view.redraw());

  function draw(list) {
    if (next === null || rest.length === 0) next = list.next ?? "";
    return [sums(list), list.clients ? names([...list.clients, ...rest]) : card("Clients", {}, empty("lock", "Names are for operators", "A viewer sees how many clients there are, not who they are."))];
  }

  function names(clients) {
    const wanted = filter.value.trim().toLowerCase();
    const shown = clients.filter((client) => client.id.toLowerCase().includes(wanted));
    if (clients.length === 0) return card("Clients", {}, empty("clients", "No clients yet", "Add one here, or under `clients` in the configuration. It then asks POST /oauth2/token for its access tokens."));
    return card(
      "Clients",
      { aside: h("div", {}, filter), flush: true, testid: "clients" },
      shown.length === 0 ? empty("search", "No client of that name", "The filter looks at what is loaded.") : clientTable(shown, view.look),
      next && h("div", { class: "more" }, h("button", { type: "button", class: "button small", "data-key": "more", on: { click: more } }, "Load more clients")),
    );
  }

  async function more(event) {
    event.target.disabled = true;
    try {
      const list = await get(`/clients?limit=${PAGE}&after=${encodeURIComponent(next)}`, { signal });
      rest = [...rest, ...list.clients];
      next = list.next ?? "";
      view.redraw();
    } catch (error) {
      if (error.name !== "AbortError") replace(event.target.parentNode, problemBox("They could not be loaded", error));
    }
  }

  main.append(
    pageHead("Clients", "Who may ask for access tokens. Disable and Invalidate take effect on the very next request.", actionButton("Add client", { iconName: "plus", kind: "primary", needs: "admin", key: "add-client", onClick: () => addClient(view.look) })),
    view.region,
  );
}

function sums(list) {
  const known = list.clients ?? [];
  const live = known.some((client) => typeof client.live_tokens === "number") ? known.reduce((sum, client) => sum + (client.live_tokens ?? 0), 0) : null;
  return h(
    "dl",
    { class: "tiles" },
    tile("Enabled", number(list.enabled)),
    tile("Disabled", number(list.disabled)),
    live !== null && !list.next && tile("Live tokens", number(live), "at most"),
  );
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
