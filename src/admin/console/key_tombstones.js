// What can still be done about a purge that was declared a mistake: undo it for a key, or give that
// possibility up.

import { post } from "./api.js";
import { h, replace } from "./dom.js";
import { Dialog, footButton } from "./dialog.js";
import { alertBox, field, fullKid, problemBox, toast } from "./parts.js";

/** Asks whether to restore a purged key, or to mark it compromised. */
export function askRestore(key, refresh) {
  const dialog = new Dialog({ narrow: true, onClose: refresh });
  const reason = h("input", { class: "input", maxlength: "256", autocomplete: "off" });
  const outcome = h("div", {});

  async function act(verb, done) {
    dialog.lock(true);
    for (const button of buttons) button.disabled = true;
    try {
      await post(`/keys/${encodeURIComponent(key.kid)}/${verb}`, reason.value.trim() ? { reason: reason.value.trim() } : {});
      toast(done);
      dialog.close();
    } catch (error) {
      replace(outcome, problemBox("Nothing was changed", error));
      for (const button of buttons) button.disabled = false;
    }
    dialog.lock(false);
  }

  const buttons = [
    footButton("Cancel", () => dialog.close(), { kind: "quiet left" }),
    footButton("Mark compromised", () => act("compromised", "The key counts as compromised; its purge cannot be undone any more."), { iconName: "ban" }),
    footButton("Restore", () => act("restore", "The key verifies again, until its last token has expired."), { kind: "primary", iconName: "undo" }),
  ];
  dialog.show({
    title: "Undo a purge",
    content: [
      h("p", {}, fullKid(key.kid)),
      alertBox("info", "Restore lets the key verify again, and never sign", h("p", {}, "Tokens that it signed are accepted until they expire. Whoever holds a token that the purge was meant to end can use it again.")),
      h("p", { class: "muted" }, "Mark compromised is the opposite: the mistake turned out to be none, and the undo ends for good."),
      field("Reason", reason, "For the audit; optional."),
      outcome,
    ],
    footer: buttons,
    focus: reason,
  });
}
