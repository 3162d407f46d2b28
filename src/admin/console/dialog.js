// Modal dialogs on <dialog>: the browser keeps the focus inside and gives it back afterwards. A
// dialog that is at work, or shows what cannot be shown again, does not close by Escape.

import { h, replace, uid } from "./dom.js";
import { icon } from "./icons.js";

export class Dialog {
  /** Opens an empty dialog; `onClose` is called once, however it ends. */
  constructor({ narrow = false, onClose = () => {} } = {}) {
    this.locked = false;
    this.leave = new AbortController();
    const id = uid("dialog");
    this.title = h("h2", { id, tabindex: "-1" });
    this.step = h("span", { class: "step" });
    this.closer = h("button", { type: "button", class: "button quiet square", "aria-label": "Close", on: { click: () => this.close() } }, icon("close"));
    this.content = h("div", { class: "content" });
    this.footer = h("footer", {});
    this.element = h(
      "dialog",
      { class: narrow ? "dialog narrow" : "dialog", "aria-labelledby": id },
      h("header", {}, this.title, this.step, this.closer),
      this.content,
      this.footer,
      // What lies behind a modal dialog is not read out.
      h("div", { class: "visually-hidden", role: "status", "data-announcer": true }),
    );
    const opener = document.activeElement;
    this.element.addEventListener("cancel", (event) => {
      if (this.locked) event.preventDefault();
    });
    this.element.addEventListener("keydown", (event) => {
      // Chrome lets a second Escape through a cancelled "cancel".
      if (event.key === "Escape" && this.locked) event.preventDefault();
    });
    this.element.addEventListener("close", () => {
      this.leave.abort();
      this.leaveStep?.abort();
      this.element.remove();
      giveBack(opener);
      onClose();
    });
    document.body.append(this.element);
    this.element.showModal();
    // A dialog belongs to its page: going back leaves both, unless it must not be lost.
    addEventListener("hashchange", () => this.locked || this.close(), { signal: this.leave.signal });
  }

  /** Aborts when the dialog closes. */
  get signal() {
    return this.leave.signal;
  }

  /** Shows a step and puts the focus where it is needed: `focus`, or the title. `leave` is what to
      abort when the step is over. */
  show({ title, step = "", content, footer = [], focus = null, leave = null }) {
    this.leaveStep?.abort();
    this.leaveStep = leave;
    this.title.textContent = title;
    this.step.textContent = step;
    replace(this.content, content);
    replace(this.footer, footer);
    this.footer.hidden = footer.length === 0;
    this.content.scrollTop = 0;
    (focus ?? this.title).focus();
  }

  /** While locked it closes only by `close()` of the program. */
  lock(locked) {
    this.locked = locked;
    this.element.toggleAttribute("data-locked", locked);
    this.closer.hidden = locked;
  }

  close() {
    if (this.element.open) this.element.close();
  }
}

/** Closes every dialog that may be closed. */
export function closeDialogs() {
  for (const dialog of document.querySelectorAll("dialog[open]:not([data-locked])")) dialog.close();
}

/** The focus goes back to what opened the dialog, or to what was drawn in its place meanwhile. */
function giveBack(opener) {
  const key = opener?.dataset.key;
  const place = opener?.isConnected ? opener : key && document.querySelector(`[data-key="${CSS.escape(key)}"]`);
  place?.focus();
}

/** A button at a dialog's foot. */
export function footButton(label, onClick, { kind = "", disabled = false, iconName = null, testid = null } = {}) {
  return h("button", { type: "button", class: `button ${kind}`.trim(), disabled, "data-testid": testid, on: { click: onClick } }, iconName && icon(iconName), label);
}
