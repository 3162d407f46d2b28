// The head of a page: title, one line that says what the page is for, and its actions.

import { h } from "./dom.js";

/** A page's head. */
export function pageHead(title, lead, ...actions) {
  return h(
    "div",
    { class: "page-head" },
    h("div", {}, h("h1", { tabindex: "-1" }, title), lead && h("p", { class: "lead" }, lead)),
    actions.some(Boolean) && h("div", { class: "actions" }, actions),
  );
}
