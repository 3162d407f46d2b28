// The sign-in page: an admin token becomes a session. The token is sent once and kept nowhere.

import { post } from "./api.js";
import { h, replace } from "./dom.js";
import { icon, mark } from "./icons.js";
import { alertBox, field } from "./parts.js";
import { remember } from "./session.js";
import { themeButton } from "./theme.js";

/** Draws the page into `app`; `message` says why it is shown, `done` gets the session. */
export function signIn(app, message, done) {
  const outcome = h("div", { role: "alert" }, message && alertBox("info", message));
  const token = h("input", {
    class: "input",
    type: "password",
    id: "token",
    name: "token",
    required: true,
    autocomplete: "current-password",
    spellcheck: "false",
    autocapitalize: "off",
    maxlength: "1024",
  });
  const reveal = h(
    "button",
    { type: "button", class: "button square", "aria-label": "Show the token", "aria-pressed": "false" },
    icon("eye"),
  );
  reveal.addEventListener("click", () => {
    const hidden = token.type === "password";
    token.type = hidden ? "text" : "password";
    reveal.setAttribute("aria-pressed", String(hidden));
  });
  const submit = h("button", { type: "submit", class: "button primary" }, "Sign in");
  const account = h("input", { type: "text", name: "username", autocomplete: "username", value: "portcullis", hidden: true });
  const form = h("form", { novalidate: true }, account, tokenField(token, reveal), submit);

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const value = token.value.trim();
    if (!value) {
      replace(outcome, alertBox("warning", "Enter an admin token."));
      token.focus();
      return;
    }
    submit.disabled = true;
    replace(submit, h("span", { class: "spinner", "aria-hidden": "true" }), "Signing in…");
    try {
      const session = await post("/session", { token: value });
      token.value = "";
      remember(session);
      done(session);
    } catch (error) {
      replace(outcome, failure(error));
      token.select();
      token.focus();
    }
    submit.disabled = false;
    replace(submit, "Sign in");
  });

  replace(
    app,
    h(
      "main",
      { class: "signin", id: "main", tabindex: "-1" },
      h(
        "div",
        { class: "signin-card" },
        h("div", { class: "stack-s" }, mark(), h("h1", {}, "Sign in to Portcullis"), h("p", { class: "muted" }, "Component Monitor, signing keys and purges of this gateway.")),
        outcome,
        form,
        h("details", { class: "small" }, h("summary", {}, "Where do I find an admin token?"), help()),
        h("div", { class: "row" }, themeButton()),
      ),
    ),
  );
  token.focus();
}

function tokenField(token, reveal) {
  const labelled = field("Admin token", token, null);
  labelled.append(h("div", { class: "with-button" }, token, reveal));
  return labelled;
}

function help() {
  return h(
    "p",
    { class: "muted" },
    h("code", {}, "portcullis init"),
    " wrote one to ",
    h("code", {}, "secrets/admin.token"),
    ". Each person gets one of their own in the configuration, under ",
    h("code", {}, "listeners.admin.tokens"),
    ", with a name for the audit and the role viewer, operator or admin.",
  );
}

function failure(error) {
  const log = error.logId && h("p", { class: "small" }, "Log ID: ", h("span", { class: "mono" }, error.logId));
  switch (error.code) {
    case "WRONG_TOKEN":
      return alertBox("error", "This admin token is not valid.", h("p", {}, "Check for missing characters. A token that was taken out of the configuration ends at once."), log);
    case "THROTTLED":
      return alertBox("error", "Too many wrong tokens from this address.", h("p", {}, `Wait ${error.retryAfter ?? 60} s before the next try. The right token still works at once.`), log);
    default:
      return alertBox("error", "Signing in did not work.", h("p", {}, error.detail), log);
  }
}
