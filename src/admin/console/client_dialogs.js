// What is done to clients, each with a confirmation and a reason; a new secret is shown once.

import { post } from "./api.js";
import { h, replace } from "./dom.js";
import { Dialog, footButton } from "./dialog.js";
import { alertBox, choice, copyButton, field, problemBox, toast, when } from "./parts.js";

/** The verbs of `POST clients/{id}/…` that need no more than a reason. */
export const VERBS = {
  disable: { label: "Disable…", iconName: "ban", danger: true, button: "Disable", title: "Disable client", what: "It gets no token any more, and those that it has are refused from the next request on, for good: after Enable it needs new ones.", done: "disabled" },
  enable: { label: "Enable…", iconName: "ok", button: "Enable", title: "Enable client", what: "It may fetch tokens again. Those from before it was disabled stay refused.", done: "enabled" },
  invalidate: { label: "Invalidate tokens…", iconName: "purge", danger: true, button: "Invalidate", title: "Invalidate tokens", what: "Every token that it has now is refused from the next request on. It can fetch new ones at once.", done: "invalidated" },
  "drop-old-secret": { label: "Drop old secret…", iconName: "trash", danger: true, button: "Drop", title: "Drop the old secret", what: "Of its two secrets only the newer one works from now on. An instance that still has the old one can fetch no token.", done: "left with one secret" },
  remove: { label: "Remove…", iconName: "trash", danger: true, button: "Remove", title: "Remove client", what: "It is taken out of the store, and its tokens are refused from the next request on.", done: "removed" },
};

/** Confirms and carries out a verb. */
export function changeClient(client, verb, refresh) {
  const about = VERBS[verb];
  const dialog = new Dialog({ narrow: true, onClose: refresh });
  const reason = reasonInput();
  const outcome = h("div", {});
  const go = footButton(about.button, run, { kind: about.danger ? "danger" : "primary", iconName: about.iconName, testid: "client-go" });

  async function run() {
    await working(dialog, go, outcome, async () => {
      const answer = await post(`/clients/${encodeURIComponent(client.id)}/${verb}`, withReason(reason));
      toast(answer.changed ? `${client.id} is ${about.done}.` : `${client.id} was ${about.done} already.`);
      dialog.close();
    });
  }
  dialog.show({
    title: about.title,
    content: [h("p", {}, h("strong", {}, client.id)), h("p", {}, about.what), field("Reason", reason, "For the client's history; optional."), outcome],
    footer: [footButton("Cancel", () => dialog.close(), { kind: "quiet" }), go],
    focus: reason,
  });
}

/** A second secret beside the present one. */
export function rotateSecret(client, refresh) {
  const dialog = new Dialog({ narrow: true, onClose: refresh });
  const reason = reasonInput();
  const outcome = h("div", {});
  const go = footButton("Make a new secret", run, { kind: "primary", iconName: "rotate", testid: "client-go" });

  async function run() {
    await working(dialog, go, outcome, async () => {
      const answer = await post(`/clients/${encodeURIComponent(client.id)}/rotate-secret`, withReason(reason));
      showSecret(dialog, client.id, answer.secret, answer.ended_secret_created_at);
    });
  }
  dialog.show({
    title: "Rotate secret",
    content: [
      h("p", {}, h("strong", {}, client.id)),
      h("p", {}, "A new secret is made; the present one works beside it, so that every instance can change over. An older one, if there are two already, ends now."),
      field("Reason", reason, "For the client's history; optional."),
      outcome,
    ],
    footer: [footButton("Cancel", () => dialog.close(), { kind: "quiet" }), go],
    focus: reason,
  });
}

/** A new client of the store. */
export function addClient(refresh) {
  const dialog = new Dialog({ narrow: true, onClose: refresh });
  const id = h("input", { class: "input mono", id: "client-id", autocomplete: "off", spellcheck: "false", maxlength: "128", required: true });
  const scopes = h("input", { class: "input mono", id: "client-scopes", autocomplete: "off", spellcheck: "false", placeholder: "read write" });
  const ttl = h("input", { class: "input", id: "client-ttl", type: "number", min: "1", max: "1440", inputmode: "numeric" });
  const reason = reasonInput();
  const outcome = h("div", {});
  const go = footButton("Add client", run, { kind: "primary", iconName: "plus", testid: "client-go" });

  async function run() {
    await working(dialog, go, outcome, async () => {
      const body = { id: id.value.trim(), scopes: scopes.value.split(/\s+/).filter(Boolean), ...withReason(reason) };
      if (ttl.value) body.token_ttl_seconds = Math.round(Number(ttl.value) * 60);
      const answer = await post("/clients", body);
      showSecret(dialog, body.id, answer.secret);
    });
  }
  dialog.show({
    title: "Add client",
    content: [
      field("Name", id, "The client_id that it logs in with. It cannot be changed later."),
      field("Scopes", scopes, "What it may ask for, separated by spaces; none when left empty."),
      field("Token life time in minutes", ttl, "The issuer's own when left empty."),
      field("Reason", reason, "For the client's history; optional."),
      outcome,
    ],
    footer: [footButton("Cancel", () => dialog.close(), { kind: "quiet" }), go],
    focus: id,
  });
}

/** The one moment in which a secret can be seen; leaving needs a word that it was stored. */
function showSecret(dialog, id, secret, ended = null) {
  dialog.lock(true);
  const stored = h("input", { type: "checkbox", id: "stored" });
  const close = footButton("Close", () => dialog.close(), { kind: "primary", disabled: true, testid: "secret-close" });
  stored.addEventListener("change", () => (close.disabled = !stored.checked));
  dialog.show({
    title: "The new secret",
    content: [
      alertBox("warning", "It is shown here and never again", h("p", {}, "The gateway keeps only a hash of it. Store it where the client reads it from.")),
      h("div", {}, h("p", { class: "muted small" }, `Secret of ${id}`), h("div", { class: "secret" }, h("span", { class: "grow", "data-testid": "secret" }, secret), copyButton(secret, "the secret"))),
      ended && alertBox("info", "An older secret ended", h("p", {}, "The one made ", when(ended, { inline: true }), " works no more: a client has two at most.")),
      choice("I have stored it", stored, null),
    ],
    footer: close,
  });
}

async function working(dialog, button, outcome, act) {
  if (button.disabled) return;
  button.disabled = true;
  dialog.lock(true);
  try {
    await act();
  } catch (error) {
    replace(outcome, problemBox("Nothing was changed", error));
    dialog.lock(false);
    button.disabled = false;
  }
}

function reasonInput() {
  return h("input", { class: "input", autocomplete: "off", maxlength: "256" });
}

function withReason(input) {
  const reason = input.value.trim();
  return reason ? { reason } : {};
}
