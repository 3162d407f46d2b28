// Actions → Rotate Signing Key, in two steps: first what is there, then the confirmation, in which
// a purge can be chosen. The answer, whatever it is, is the third and last thing the dialog shows.

import { get, idempotencyKey, post } from "./api.js";
import { h, replace } from "./dom.js";
import { Dialog, footButton } from "./dialog.js";
import { absolute, isPast, relative } from "./format.js";
import { ago, alertBox, keyState, kid, problemBox, table, when } from "./parts.js";
import { confirmStep } from "./rotate_confirm.js";
import { failureStep, resultStep } from "./rotate_result.js";

/** Opens the dialog. */
export async function openRotate() {
  const dialog = new Dialog();
  dialog.show({ title: "Rotate Signing Key", content: h("p", { class: "muted" }, "Looking at the keys…") });
  // What was chosen and typed stays for as long as the dialog is open, whichever way is taken.
  await overview(dialog, { purge: false, undo: false, reason: "" });
}

async function overview(dialog, draft) {
  let set;
  try {
    set = await get("/keys", { signal: dialog.signal });
  } catch (error) {
    if (error.name !== "AbortError") dialog.show({ title: "Rotate Signing Key", content: problemBox("The keys could not be read", error), footer: footButton("Close", () => dialog.close()) });
    return;
  }
  const next = footButton("Rotate", () => confirmation(dialog, set, draft), { kind: "primary", iconName: "rotate", testid: "rotate-next" });
  dialog.show({
    title: "Rotate Signing Key",
    step: "Step 1 of 2",
    content: [explanation(set), keysNow(set)],
    footer: [footButton("Cancel", () => dialog.close(), { kind: "quiet" }), next],
    focus: next,
  });
}

function explanation(set) {
  const until = set.idempotency_window_until;
  if (until && !isPast(until)) {
    const active = set.keys.find((key) => key.state === "active");
    return alertBox(
      "info",
      `Rotated ${relative(active.activated_at)}: a plain Rotate changes nothing until ${absolute(until)}`,
      h("p", {}, "That way no key is pushed out too early. A new Rotate is possible ", ago(until), "; a purge is possible at once, the next step offers it."),
    );
  }
  const pending = set.keys.find((key) => key.state === "pending");
  return h(
    "p",
    {},
    "The pending key ",
    kid(pending.kid),
    " begins to sign at once; every verifier knows it already. The active key stops signing and verifies on until the last token that it signed has expired.",
  );
}

/** The active and deprecated keys with the dates between which their tokens are good. */
function keysNow(set) {
  const rows = set.keys.filter((key) => key.state === "active" || key.state === "deprecated");
  return h(
    "div",
    { class: "panel" },
    table(
      "Active and deprecated keys",
      [
        { title: "Name", className: "lead", cell: (key) => kid(key.kid) },
        { title: "State", cell: (key) => keyState(key.state) },
        { title: "Valid from", cell: (key) => when(key.activated_at) },
        { title: "Valid until", cell: (key) => (key.verify_until ? when(key.verify_until) : signsUntil(set)) },
      ],
      rows,
      { className: "dense" },
    ),
  );
}

/** The active key has no end yet: it begins with the next rotation. */
function signsUntil(set) {
  return [
    h("span", { class: "muted" }, "open while it signs"),
    !set.schedule_paused && h("div", { class: "small muted" }, h("div", {}, "as planned until"), h("time", { datetime: set.next_rotation_at, title: relative(set.next_rotation_at) }, absolute(set.next_rotation_at).replace(" UTC", ""))),
  ];
}

function confirmation(dialog, set, draft) {
  // One key for the whole dialog: an answer that got lost can be asked for again.
  const keys = new Map();
  const run = async (choice, back) => {
    const body = JSON.stringify(choice);
    if (!keys.has(body)) keys.set(body, idempotencyKey());
    dialog.lock(true);
    replace(dialog.footer, h("span", { class: "row", role: "status" }, h("span", { class: "spinner", "aria-hidden": "true" }), choice.purge ? "Rotating and purging…" : "Rotating…"));
    try {
      const answer = await post("/keys/rotate", choice, { headers: { "Idempotency-Key": keys.get(body) } });
      dialog.lock(false);
      resultStep(dialog, answer, choice);
    } catch (error) {
      dialog.lock(false);
      failureStep(dialog, error, { retry: () => run(choice, back), back });
    }
  };
  confirmStep(dialog, set, { run, draft, back: () => overview(dialog, draft) });
}
