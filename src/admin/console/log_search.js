// The box that takes a Log ID.

import { h } from "./dom.js";
import { icon } from "./icons.js";
import { href } from "./router.js";

const UUID = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/i;

/** A form that leads to the entries of a Log ID; a whole error message may be pasted. */
export function logSearch(value = "") {
  const input = h("input", { class: "input mono", type: "search", "aria-label": "Log ID", placeholder: "Log ID, or the message that names it", autocomplete: "off", spellcheck: "false", maxlength: "2000", "data-key": "log-id", "data-testid": "log-id" });
  input.value = value;
  const problem = h("p", { class: "small status-error", role: "alert" });
  const form = h("form", { class: "stack-s", role: "search", novalidate: true }, h("div", { class: "searchbar" }, input, h("button", { type: "submit", class: "button" }, icon("search"), "Find")), problem);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const found = UUID.exec(input.value);
    if (found) {
      problem.textContent = "";
      location.hash = href("logs", found[0].toLowerCase());
    } else {
      problem.textContent = "A Log ID looks like 9b2f0a54-6a0e-4a57-8c1f-5f0f2f6f8a11.";
      input.setAttribute("aria-invalid", "true");
      input.focus();
    }
  });
  return form;
}
