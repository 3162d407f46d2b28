// The signing keys as a table, with the menu Actions → Rotate Signing Key. Shown on the page
// Signing keys and beside the issuer in Component Monitor.

import { menuButton } from "./actions.js";
import { h } from "./dom.js";
import { number } from "./format.js";
import { live } from "./live.js";
import { card, keyState, kid, table, when } from "./parts.js";
import { openRotate } from "./rotate.js";
import { href } from "./router.js";

/** The menu. */
export function keyActions() {
  return menuButton(
    "Actions",
    [
      { label: "Rotate Signing Key…", iconName: "rotate", needs: "operator", help: "Also for Rotate and purge", onClick: () => openRotate() },
      { label: "Open the purges", iconName: "purge", onClick: () => (location.hash = href("purges")) },
    ],
    { kind: "primary", key: "key-actions" },
  );
}

/** A card that keeps itself fresh until `signal` aborts. */
export function keysPanel(signal) {
  const { region } = live({ path: "/keys", every: 10_000, on: ["keys"], signal, draw: (set) => keyTable(set) });
  return card("Signing keys", { aside: [h("a", { class: "small", href: href("keys") }, "Time line"), keyActions()], flush: true, testid: "keys-panel" }, region);
}

/** The live keys: active, pending, deprecated. */
export function keyTable(set) {
  return table(
    "Signing keys",
    [
      { title: "Name and algorithm", className: "lead", cell: (key) => [kid(key.kid), h("div", { class: "small muted" }, key.alg)] },
      { title: "State", cell: (key) => keyState(key.state) },
      { title: "Created", cell: (key) => when(key.created_at) },
      { title: "Activated", cell: (key) => when(key.activated_at, { none: "stands ready" }) },
      { title: "Verifies until", cell: (key) => when(key.verify_until, { none: key.state === "active" ? "open, it signs" : "–" }) },
      { title: "Live tokens", className: "num", cell: (key) => number(key.live_tokens) },
      { title: "Requests 5 min", className: "num", cell: (key) => number(key.requests_5m) },
    ],
    set.keys,
    { key: (key) => key.state },
  );
}
