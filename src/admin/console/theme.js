// Light, dark, or as the system has it. theme_boot.js sets it before the first paint.

import { announce, h } from "./dom.js";
import { icon } from "./icons.js";

const KEY = "portcullis.theme";
const NEXT = { auto: "light", light: "dark", dark: "auto" };
const LOOK = {
  auto: { icon: "auto", label: "Theme: system" },
  light: { icon: "sun", label: "Theme: light" },
  dark: { icon: "moon", label: "Theme: dark" },
};

function current() {
  return document.documentElement.dataset.theme ?? "auto";
}

function choose(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  try {
    if (theme === "auto") localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, theme);
  } catch (_storage_is_off) {
    // It holds until the page is left.
  }
}

/** A button that goes through the three. */
export function themeButton() {
  const button = h("button", { type: "button", class: "button quiet small", "data-testid": "theme" });
  const show = () => {
    const look = LOOK[current()];
    button.replaceChildren(icon(look.icon), h("span", {}, look.label));
  };
  button.addEventListener("click", () => {
    choose(NEXT[current()]);
    show();
    announce(LOOK[current()].label);
  });
  show();
  return button;
}
