// How it went: what changed; that nothing had to change, and until when that is so; or that it
// failed, with the Log ID that leads to the reason. A purge's receipt stays live.

import { announce, h } from "./dom.js";
import { footButton } from "./dialog.js";
import { absolute, duration, now, plural, relative } from "./format.js";
import { ago, alertBox, facts, fullKid, problemBox, when } from "./parts.js";
import { liveReceipt } from "./receipt.js";
import { href } from "./router.js";

/** So many purged keys are named without being asked for. */
const UNFOLDED = 5;

/** The answer of a Rotate. */
export function resultStep(dialog, answer, choice) {
  const purged = Boolean(answer.receipt);
  const content = [answer.changed ? happened(answer, purged) : unchanged(answer, choice), changes(answer)];
  if (purged) content.push(liveReceipt(answer.receipt, dialog.signal));
  if (answer.key_encryption_key_demand) content.push(alertBox("warning", "A new key-encryption key is due", h("p", {}, "It may have leaked with the keys. Put a new file first in keys.encryption_key_files, then run ", h("code", {}, "portcullis keys reseal"), ".")));
  const done = footButton("Done", () => dialog.close(), { kind: "primary", testid: "rotate-done" });
  dialog.show({
    title: title(answer, purged),
    content: h("div", { class: "stack", "data-testid": "rotate-result" }, content),
    footer: [purged && footButton("Open the recovery board", () => (location.hash = href("purges", answer.receipt.purge_id)), { testid: "open-board" }), done],
    focus: done,
  });
  announce(title(answer, purged));
}

function title(answer, purged) {
  if (!answer.changed) return "Nothing was changed";
  return purged ? "Rotated and purged" : "Rotated";
}

function happened(answer, purged) {
  if (!purged) return alertBox("ok", "The signing key was rotated", h("p", {}, "No token broke. What the former key signed is accepted until it expires."));
  if (!answer.receipt.complete) {
    return alertBox("warning", "The purge is committed, but not over yet", h("p", {}, "A worker still holds an earlier key, and may complete what it has begun. The receipt says who, and turns when it is over."));
  }
  const count = answer.purged.length;
  return alertBox("ok", `${count === 1 ? "One key was" : `${count} keys were`} purged, and fresh ones made`, h("p", {}, "Every token that they signed is refused from now on. Clients get a new one from the token endpoint."));
}

/** `changed: false` in words: what happened before, and when a new Rotate is possible. */
function unchanged(answer, choice) {
  const until = answer.idempotency_window_until;
  const what = answer.kind === "purge" ? "rotated and purged" : "rotated";
  const over = Date.parse(until) <= now();
  return alertBox(
    "info",
    `The signing key was already ${what} ${relative(answer.at)}`,
    h(
      "p",
      {},
      choice.purge
        ? "None of the keys that you looked at verifies any more, so there was nothing left to purge. The result of the earlier purge is shown."
        : `A Rotate within ${duration(Date.parse(until) - Date.parse(answer.at))} of the last one changes nothing and gives the same result, so that a second click, or a second operator, cannot push keys out too early.`,
    ),
    over ? null : h("p", { "data-testid": "possible-again" }, h("strong", {}, "A new Rotate is possible "), ago(until), `, at ${absolute(until)}.`),
    !choice.purge && h("p", { class: "muted" }, "If a key may have leaked, choose the purge: it is never held back."),
  );
}

function changes(answer) {
  const state = (name) => answer.keys.filter((key) => key.state === name);
  const verifies = state("deprecated").find((key) => key.kid === answer.replaced);
  return facts(
    ["Signs since", when(answer.at, { inline: true })],
    ["Signing key", h("span", { "data-testid": "activated" }, fullKid(answer.activated))],
    answer.purged.length > 0 && ["Purged", purged(answer.purged)],
    (verifies || answer.purged.length === 0) && [verifies ? "Verifies on" : "Replaced", h("span", {}, fullKid(answer.replaced), verifies && h("div", { class: "small muted" }, "until ", absolute(verifies.verify_until)))],
    answer.unseen?.length ? ["Newer than you saw", answer.unseen.map((one) => h("div", {}, fullKid(one)))] : null,
    ["Stands ready", state("pending").map((key) => fullKid(key.kid))],
    ["Rotation ID", h("span", { class: "mono small" }, answer.rotation_id)],
  );
}

/** Every key that the purge ended; folded away when they are many. */
function purged(kids) {
  const list = h("ul", {}, kids.map((one) => h("li", {}, fullKid(one))));
  if (kids.length <= UNFOLDED) return list;
  return h("details", {}, h("summary", {}, plural(kids.length, "key")), list);
}

/** Why it did not happen. */
export function failureStep(dialog, error, { retry, back }) {
  const unknown = error.status === 0;
  const content = unknown
    ? problemBox("No answer: it is not known whether the rotation happened", error, h("p", {}, "Trying again is safe: the same request is not carried out twice."))
    : problemBox("The rotation did not happen", error, h("p", {}, h("a", { href: href("runbook", "a-manual-rotation-could-not-be-completed"), "data-testid": "runbook-link" }, "What to look at and to do, by cause")));
  const again = footButton("Try again", retry, { kind: "primary", testid: "rotate-retry" });
  dialog.show({
    title: "Not rotated",
    content: h("div", { class: "stack", "data-testid": "rotate-failure" }, content),
    footer: [!unknown && footButton("Back", back, { kind: "quiet left" }), footButton("Close", () => dialog.close(), { kind: "quiet" }), again],
    focus: again,
  });
}
