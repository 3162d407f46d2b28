// A purge's receipt: who has stopped when, and what is still open. Amber while something is, green
// after; it looks again by itself until nothing is.

import { get } from "./api.js";
import { announce, h, replace } from "./dom.js";
import { absolute, isPast, plural, relative } from "./format.js";
import { icon } from "./icons.js";
import { badge } from "./parts.js";

const EVERY = 1000;

/** Whether nothing of the purge is open any more. */
export function isOver(receipt) {
  return receipt.complete && receipt.open_requests === 0 && isPast(receipt.external_verifiers_until);
}

/** OK or outstanding, for a list. */
export function receiptBadge(receipt) {
  if (!receipt.complete) return badge("error", "warning", "not everywhere yet");
  return isOver(receipt) ? badge("ok", "ok", "over") : badge("warning", "clock", "outstanding");
}

/** The receipt as a list. */
export function receiptList(receipt) {
  const held = receipt.still_held_by ?? [];
  return h(
    "ul",
    { class: "receipt" },
    line(true, "Committed", "done", absolute(receipt.committed_at), "From this moment no new token is signed, and none accepted, by the purged keys."),
    line(
      receipt.complete,
      "Workers let go",
      receipt.complete ? "done" : "open",
      receipt.complete ? absolute(receipt.drained_at) : "waiting",
      receipt.complete ? "No worker holds an earlier key any more: the purge is final in this process." : `Still held by: ${held.join(", ") || "a worker"}. It is final when the last one has let go.`,
    ),
    line(receipt.open_requests === 0, "Requests let in before", receipt.open_requests === 0 ? "none left" : plural(receipt.open_requests, "open one", "open ones"), "", "They were admitted by a purged key before the purge and run to their end; streams are cut."),
    line(
      isPast(receipt.external_verifiers_until),
      "Other verifiers",
      isPast(receipt.external_verifiers_until) ? "over" : relative(receipt.external_verifiers_until),
      absolute(receipt.external_verifiers_until),
      "Services that check tokens with our JWKS themselves may keep the old one in a cache until then.",
    ),
  );
}

function line(done, what, state, at, why) {
  return h(
    "li",
    { "data-state": done ? "done" : "open" },
    icon(done ? "ok" : "clock"),
    h("span", { class: "what" }, what),
    h("span", { class: "state" }, state === "done" ? "done" : state),
    h("span", { class: "why" }, at && h("span", { class: "nowrap" }, `${at}. `), why),
  );
}

/** A panel that follows a receipt until it is over or `signal` aborts. */
export function liveReceipt(receipt, signal) {
  const head = h("span", { "data-testid": "receipt-state" });
  const list = h("div", {});
  const element = h("section", { class: "panel", "data-testid": "receipt" }, h("div", { class: "panel-head" }, h("h3", {}, "Receipt"), head), h("div", { class: "panel-body" }, list));
  let text = null;
  let over = false;

  function show(next) {
    over = isOver(next);
    // Its relative times change by themselves; the rest only with the receipt.
    const now = JSON.stringify([next, over, relative(next.external_verifiers_until)]);
    if (now !== text) {
      text = now;
      replace(head, receiptBadge(next));
      replace(list, receiptList(next));
    }
    if (over) announce("The purge is over everywhere.");
  }

  let latest = receipt;
  async function look() {
    if (signal.aborted || over) return;
    try {
      // Without the clients: the receipt alone is of interest here.
      latest = await get(`/keys/purges/${encodeURIComponent(receipt.purge_id)}?limit=1`, { background: true, signal });
    } catch (error) {
      if (error.name === "AbortError") return;
    }
    show(latest);
    if (!over) setTimeout(look, EVERY);
  }
  show(receipt);
  setTimeout(look, EVERY);
  return element;
}
