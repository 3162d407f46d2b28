// Signing keys: what signs, what verifies and until when, the picture over time, and the keys that
// are no more, folded away.

import { actionButton } from "./actions.js";
import { post } from "./api.js";
import { h } from "./dom.js";
import { absolute, duration, isPast, now, number } from "./format.js";
import { askRestore } from "./key_tombstones.js";
import { keyActions, keyTable } from "./keys_panel.js";
import { live } from "./live.js";
import { pageHead } from "./page.js";
import { ago, alertBox, card, fold, keyState, kid, table, tile, toast, when } from "./parts.js";
import { timeline } from "./timeline.js";

/** Draws the page. */
export function keysView({ main, signal }) {
  const view = live({ path: "/keys", every: 10_000, on: ["keys", "purge"], signal, draw: (set) => page(set, () => view.look()) });
  main.append(
    pageHead("Signing keys", "One key signs, one stands ready, older ones verify until their last token has expired.", keyActions()),
    view.region,
  );
}

function page(set, refresh) {
  return [
    notices(set, refresh),
    tiles(set),
    card("Keys over time", {}, timeline(set)),
    card("Live keys", { aside: h("span", { class: "muted small" }, `revision ${set.revision}`), flush: true, testid: "keys-table" }, keyTable(set)),
    tombstones(set, refresh),
  ];
}

function tiles(set) {
  const active = set.keys.find((key) => key.state === "active");
  const open = set.idempotency_window_until && !isPast(set.idempotency_window_until);
  return h(
    "dl",
    { class: "tiles" },
    tile("Active key in use for", h("span", {}, duration(now() - Date.parse(active.activated_at))), `since ${absolute(active.activated_at)}`),
    tile("Next automatic rotation", set.schedule_paused ? "paused" : ago(set.next_rotation_at), set.schedule_paused ? "it waits for the clock to be confirmed" : absolute(set.next_rotation_at)),
    tile("Rotate", open ? h("span", {}, ago(set.idempotency_window_until)) : "possible now", open ? "a Rotate before that changes nothing; a purge is always possible" : "it is instant, and breaks no token"),
    tile("Keys that verify", number(set.keys.filter((key) => key.state !== "pending").length), "the pending one stands published beside them"),
  );
}

function notices(set, refresh) {
  const paused = set.schedule_paused;
  const demand = set.key_encryption_key_demand;
  return [
    paused &&
      alertBox(
        "warning",
        "Automatic rotation and retirement are paused",
        h("p", {}, `The clock stepped forward by ${duration(paused.step_seconds * 1000)} at ${absolute(paused.since)}. The gateway takes ${absolute(paused.now)} for the present. It goes on by itself `, ago(paused.resumes_at), "."),
        h("div", { class: "row" }, actionButton("The time is right", { kind: "small", needs: "operator", key: "confirm-clock", onClick: (button) => confirmClock(button, paused, refresh) })),
      ),
    demand &&
      alertBox(
        "warning",
        "A new key-encryption key is due",
        h("p", {}, "A purge said that keys were compromised, and the one that encrypts them in the store may have leaked with them. Make a new file of key-encryption keys, put it first in ", h("code", {}, "keys.encryption_key_files"), ", then run ", h("code", {}, "portcullis keys reseal"), "."),
        h("p", { class: "muted small" }, "Demanded ", when(demand.since, { inline: true })),
      ),
  ];
}

async function confirmClock(button, paused, refresh) {
  button.disabled = true;
  try {
    await post("/clock/confirm", { since: paused.since });
    toast("The time is confirmed; the schedule goes on.");
  } catch (error) {
    toast(error.detail);
    button.disabled = false;
  }
  refresh();
}

function tombstones(set, refresh) {
  const ended = [...set.tombstones].sort((a, b) => Date.parse(b.ended_at) - Date.parse(a.ended_at));
  const note = "Their private halves are gone, and they never verify again. The public halves are kept for a while to tell a purge's failures from forgeries.";
  return fold(
    "tombstones",
    `Keys that are no more (${ended.length})`,
    h("p", { class: "note small" }, note),
    ended.length === 0
      ? h("p", { class: "note" }, "None yet. A retired key shows here once its last token has expired.")
      : table(
          "Ended keys",
          [
            { title: "Name", className: "lead", cell: (key) => kid(key.kid) },
            { title: "State", cell: (key) => keyState(key.state) },
            { title: "Algorithm", cell: (key) => key.alg },
            { title: "Ended", cell: (key) => when(key.ended_at) },
            { title: "Forgotten", cell: (key) => when(key.tombstone_until) },
            { title: "", className: "actions", cell: (key) => undo(key, refresh) },
          ],
          ended,
        ),
  );
}

function undo(key, refresh) {
  if (key.state !== "purged") return "";
  if (!key.mistake_undo) return h("span", { class: "muted small" }, "compromised: no undo");
  return actionButton("Undo…", { iconName: "undo", kind: "small", needs: "admin", key: `undo-${key.kid}`, onClick: () => askRestore(key, refresh) });
}
