// The second step: what is about to happen. Without the check-box a plain rotation, which breaks
// nothing. With it a purge: its caution, its blast radius, and a confirmation by hand.

import { may, whyNot } from "./actions.js";
import { get } from "./api.js";
import { blastRadius } from "./blast.js";
import { announce, h, replace } from "./dom.js";
import { footButton } from "./dialog.js";
import { icon } from "./icons.js";
import { alertBox, choice, field } from "./parts.js";
import { read, subscribe } from "./store.js";

/** How many of the active key's first characters confirm a purge. */
const CONFIRM = 6;
const LONGEST_REASON = 256;

/** Shows it; `run` gets the body of the request. `draft` holds what was chosen and typed before. */
export function confirmStep(dialog, set, { run, back, draft }) {
  const leave = new AbortController();
  let wanted = confirming(set);
  const hint = h("code", { "data-testid": "confirm-hint" }, wanted);
  const news = h("div", { class: "news" });
  const blast = blastRadius(leave.signal);

  const purge = h("input", { type: "checkbox", id: "purge", disabled: !may("admin") });
  purge.checked = draft.purge;
  const undo = h("input", { type: "checkbox", id: "mistake-undo" });
  undo.checked = draft.undo;
  const typed = h("input", { class: "input mono", id: "confirm-kid", autocomplete: "off", spellcheck: "false", autocapitalize: "off", maxlength: "43" });
  const reason = h("input", { class: "input", id: "reason", autocomplete: "off", maxlength: String(LONGEST_REASON) });
  reason.value = draft.reason;
  const caution = h("div", { class: "caution", hidden: true }, warning(), choice("This is a drill or a mistake: keep an undo", undo, undoHelp()), news, field(confirmLabel(hint), typed, "So that no purge happens by a slip of the hand."));
  const panel = h("div", { class: "panel inset" }, choice("Purge: end every key that verifies now", purge, purgeHelp()), caution);
  const go = footButton("Rotate", submit, { kind: "primary", iconName: "rotate", testid: "rotate-go" });
  const summary = h("p", { role: "status" });

  function submit() {
    if (go.disabled) return;
    const body = {};
    if (reason.value.trim()) body.reason = reason.value.trim();
    if (purge.checked) Object.assign(body, { purge: true, seen_revision: set.revision, mistake_undo: undo.checked });
    run(body, () => confirmStep(dialog, set, { run, back, draft }));
  }

  /** Somebody else may rotate or purge while the dialog is open. */
  async function refresh() {
    // What happens now is the dialog's own doing.
    if (dialog.locked) return;
    let fresh;
    try {
      fresh = await get("/keys", { background: true, signal: leave.signal });
    } catch (_gone_or_lost) {
      // The gateway asks for the revision anyway, and the next event comes here again.
      return;
    }
    if (dialog.locked || leave.signal.aborted || fresh.revision < set.revision) return;
    set = fresh;
    if (confirming(set) === wanted) return;
    wanted = confirming(set);
    hint.textContent = wanted;
    typed.value = "";
    announce("The active key changed: type the new one's characters.");
    replace(news, alertBox("warning", "The active key changed just now", h("p", {}, "Somebody else rotated, or the schedule did. What you typed was for the key before; look at the numbers, then type the new characters.")));
    update();
  }

  function update() {
    Object.assign(draft, { purge: purge.checked, undo: undo.checked, reason: reason.value });
    caution.hidden = !purge.checked;
    panel.classList.toggle("danger", purge.checked);
    blast.heat(purge.checked);
    const sure = !purge.checked || typed.value.trim() === wanted;
    typed.setAttribute("aria-invalid", String(purge.checked && typed.value !== "" && !wanted.startsWith(typed.value.trim())));
    go.disabled = !sure;
    go.className = `button ${purge.checked ? "danger" : "primary"}`;
    go.replaceChildren(icon(purge.checked ? "purge" : "rotate"), purge.checked ? "Rotate and purge" : "Rotate");
    const text = purge.checked ? "Tokens in use now will be refused." : "No token breaks: a plain rotation.";
    if (summary.textContent !== text) summary.textContent = text;
  }
  for (const input of [purge, undo]) input.addEventListener("change", update);
  for (const input of [typed, reason]) input.addEventListener("input", update);
  for (const input of [typed, reason]) input.addEventListener("keydown", (event) => event.key === "Enter" && submit());

  dialog.show({
    title: "Confirm the rotation",
    step: "Step 2 of 2",
    content: [summary, panel, blast.element, field("Reason", reason, "Goes into the audit beside your name; optional, at most 256 characters.")],
    footer: [footButton("Back", back, { kind: "quiet left" }), footButton("Cancel", () => dialog.close(), { kind: "quiet" }), go],
    focus: purge.disabled ? reason : purge,
    leave,
  });
  update();
  for (const key of ["keys", "resync"]) subscribe(key, refresh, leave.signal);
  if (read("keys") > set.revision) refresh();
}

/** What has to be typed for a purge of this key set. */
function confirming(set) {
  return set.keys.find((key) => key.state === "active").kid.slice(0, CONFIRM);
}

function warning() {
  return h(
    "div",
    { class: "warning-line" },
    icon("warning", "status-error"),
    h(
      "p",
      {},
      h("strong", {}, "Caution. "),
      "From the next request on, every token that these keys signed is refused, and open streams are cut. Clients fail until they fetch a new token. The pending key is replaced as well. Use it when a key may have leaked.",
    ),
  );
}

function purgeHelp() {
  return whyNot("admin") ?? "Leave it off for a routine rotation.";
}

function undoHelp() {
  return "Without this the keys count as compromised: they can never be restored, and their use is an alarm.";
}

function confirmLabel(hint) {
  return ["Type the first ", String(CONFIRM), " characters of the active key: ", hint];
}
