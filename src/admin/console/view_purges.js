// The purges that this process remembers, newest first, each with how far its recovery is.

import { h } from "./dom.js";
import { number } from "./format.js";
import { live } from "./live.js";
import { pageHead } from "./page.js";
import { card, empty, kid, table, when } from "./parts.js";
import { keyActions } from "./keys_panel.js";
import { receiptBadge } from "./receipt.js";
import { isMisused, misuseBadge, recoveryBar, recoveryWords } from "./recovery_parts.js";
import { href } from "./router.js";

/** Draws the list. */
export function purgesView({ main, signal }) {
  const { region } = live({ path: "/keys/purges", every: 5000, on: ["purge", "keys"], signal, draw });
  main.append(pageHead("Purges", "What each purge ended, whom it broke, and who is back.", keyActions()), region);
}

function draw({ purges }) {
  if (purges.length === 0) {
    return card(
      "No purge is remembered",
      {},
      empty(
        "purge",
        "Nothing was purged lately",
        "A purge ends keys at once, tokens in use included. It is for a key that may have leaked: Actions, Rotate Signing Key, then the purge check-box.",
        "This page then shows which clients it broke, who has a new token, and who still fails.",
      ),
    );
  }
  return card(
    "Purges",
    { flush: true, testid: "purges" },
    table(
      "Purges, newest first",
      [
        { title: "Committed", className: "lead", cell: (purge) => h("a", { href: href("purges", purge.purge_id), "data-key": purge.purge_id }, when(purge.committed_at)) },
        { title: "Receipt", cell: (purge) => h("div", { class: "stack-s" }, h("div", {}, receiptBadge(purge)), isMisused(purge) && misuseBadge(purge)) },
        { title: "Keys", cell: keys },
        { title: "Recovery", className: "wide", cell: (purge) => h("div", { class: "stack-s" }, recoveryBar(purge.recovery), h("span", { class: "small muted" }, recoveryWords(purge.recovery))) },
        { title: "Failures", className: "num", cell: (purge) => number(purge.recovery.failures) },
      ],
      purges,
    ),
  );
}

function keys(purge) {
  const more = purge.kids.length - 1;
  return [kid(purge.kids[0]), more > 0 && h("span", { class: "muted small" }, ` and ${more} more`)];
}
