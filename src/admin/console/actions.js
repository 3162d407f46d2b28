// Buttons and menus that know what the session may do. What is not allowed is shown, cannot be
// used, and says why; the gateway checks all of it again.

import { announce, h, uid } from "./dom.js";
import { icon } from "./icons.js";
import { read } from "./store.js";

const ROLES = ["viewer", "operator", "admin"];

/** Whether the session has at least this role. */
export function may(role) {
  return ROLES.indexOf(read("session")?.role) >= ROLES.indexOf(role);
}

/** Why it may not; null when it may. */
export function whyNot(role) {
  if (may(role)) return null;
  return `This needs the role ${role}; you are signed in as ${read("session")?.role ?? "nobody"}.`;
}

/** A button; `needs` a role, `why` another reason not to. A refused one can still be reached, so
    that its reason can be read. */
export function actionButton(label, { iconName = null, kind = "", needs = "viewer", why = null, key = null, onClick }) {
  const reason = why ?? whyNot(needs);
  const id = uid("why");
  const button = h(
    "button",
    {
      type: "button",
      class: `button ${kind}`.trim(),
      "aria-disabled": reason ? "true" : null,
      "aria-describedby": reason ? id : null,
      title: reason,
      "data-key": key,
      on: { click: () => (reason ? announce(reason) : onClick(button)) },
    },
    iconName && icon(iconName),
    label,
  );
  return reason ? h("span", { class: "row" }, button, h("span", { id, class: "visually-hidden" }, reason)) : button;
}

/** Between a menu and its button, and between a menu and the edge of the window, in pixels. */
const GAP = 4;
const EDGE = 8;

/** A menu of actions: `{ label, iconName, needs, why, danger, onClick }`. Arrow keys, Home, End and
    Escape work as in any menu. It lies in the browser's top layer, so that nothing cuts it off. */
export function menuButton(label, items, { kind = "", iconName = "down", key = null } = {}) {
  const id = uid("menu");
  const button = h(
    "button",
    { type: "button", class: `button ${kind}`.trim(), "aria-haspopup": "menu", "aria-expanded": "false", "aria-controls": id, "data-key": key },
    label,
    icon(iconName),
  );
  const list = h("div", { class: "menu-list", role: "menu", id, popover: "manual", "aria-label": typeof label === "string" ? label : "Actions" });
  const entries = items.filter(Boolean).map((item) => entry(item, () => close(true)));
  list.append(...entries);

  let opened = null;
  const isOpen = () => list.matches(":popover-open");
  function open(focus) {
    list.showPopover();
    button.setAttribute("aria-expanded", "true");
    opened = new AbortController();
    const options = { capture: true, signal: opened.signal };
    document.addEventListener("pointerdown", outside, options);
    for (const type of ["scroll", "resize"]) addEventListener(type, place, options);
    place();
    focus?.focus({ preventScroll: true });
  }
  function close(refocus) {
    opened?.abort();
    if (isOpen()) list.hidePopover();
    button.setAttribute("aria-expanded", "false");
    if (refocus) button.focus();
  }
  function outside(event) {
    if (!wrap.contains(event.target)) close(false);
  }
  /** Below its button and flush with its right edge; above it where there is no room below. */
  function place() {
    const at = button.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = list;
    const [right, bottom] = [innerWidth - width - EDGE, innerHeight - height - EDGE];
    const below = at.bottom + GAP;
    const above = at.top - GAP - height;
    list.style.left = `${Math.max(EDGE, Math.min(at.right - width, right))}px`;
    list.style.top = `${below > bottom && above >= EDGE ? above : Math.max(EDGE, Math.min(below, bottom))}px`;
  }
  button.addEventListener("click", () => (isOpen() ? close(false) : open(entries[0])));
  const wrap = h("div", { class: "menu" }, button, list);
  wrap.addEventListener("keydown", (event) => {
    const at = entries.indexOf(document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: entries.length - 1 }[event.key];
    if (event.key === "Escape" && isOpen()) {
      event.stopPropagation();
      close(true);
    } else if (event.key === "Tab" && isOpen()) {
      // Back to the button first: from there the browser goes on.
      close(true);
    } else if (to !== undefined) {
      event.preventDefault();
      const target = entries[(to + entries.length) % entries.length];
      if (isOpen()) target.focus();
      else open(event.key === "ArrowUp" ? entries.at(-1) : entries[0]);
    }
  });
  return wrap;
}

function entry(item, done) {
  const reason = item.why ?? whyNot(item.needs ?? "viewer");
  return h(
    "button",
    {
      type: "button",
      role: "menuitem",
      tabindex: "-1",
      class: item.danger && !reason ? "danger" : null,
      "aria-disabled": reason ? "true" : null,
      on: {
        click: () => {
          if (reason) {
            announce(reason);
          } else {
            done();
            item.onClick();
          }
        },
      },
    },
    icon(reason ? "lock" : item.iconName),
    h("span", {}, item.label),
    (reason ?? item.help) && h("span", { class: "why" }, reason ?? item.help),
  );
}
