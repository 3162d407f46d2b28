// The frame: where one can go, who one is, whether the page is live.

import { remove } from "./api.js";
import { announce, h, replace } from "./dom.js";
import { lastHeard } from "./events.js";
import { icon, mark } from "./icons.js";
import { badge } from "./parts.js";
import { href } from "./router.js";
import { read, subscribe } from "./store.js";
import { themeButton } from "./theme.js";

const PLACES = [
  ["", "home", "Overview"],
  ["components", "components", "Component Monitor"],
  ["keys", "key", "Signing keys"],
  ["purges", "purge", "Purges"],
  ["clients", "clients", "Clients"],
  ["audit", "audit", "Audit"],
  ["logs", "logs", "Logs"],
  ["runbook", "runbook", "Runbook"],
];

export class Shell {
  constructor(app, signedOut) {
    this.signedOut = signedOut;
    this.end = new AbortController();
    this.links = new Map();
    this.counts = h("span", { class: "count" });
    this.live = h("span", { class: "live", "data-testid": "live" });
    this.issuer = h("span", { class: "issuer" });
    this.main = h("main", { id: "main", tabindex: "-1" });
    this.toggle = h("button", { type: "button", class: "button quiet square menu-toggle", "aria-label": "Menu", "aria-expanded": "false", "aria-controls": "sidebar" }, icon("menu"));
    this.toggle.addEventListener("click", () => this.openMenu(this.frame.dataset.menu !== "open"));
    this.frame = h(
      "div",
      { class: "shell" },
      this.sidebar(),
      h("div", { class: "page" }, h("header", { class: "topbar" }, this.toggle, brand(), this.issuer, this.live), this.main, foot()),
    );
    this.frame.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.frame.dataset.menu === "open") {
        this.openMenu(false);
        this.toggle.focus();
      }
    });
    replace(app, this.frame);
    for (const key of ["stream", "age"]) subscribe(key, () => this.showLive(), this.end.signal);
    subscribe("status", (status) => this.showStatus(status), this.end.signal);
    this.showLive();
    if (read("status")) this.showStatus(read("status"));
  }

  /** Marks the page in the side bar and gives an empty main part, focused. */
  enter(page, title) {
    document.title = `${title} · Portcullis`;
    for (const [name, link] of this.links) {
      if (name === page) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    const moved = this.page !== undefined;
    this.page = page;
    this.openMenu(false);
    this.main.replaceChildren();
    if (moved) {
      scrollTo(0, 0);
      this.main.focus({ preventScroll: true });
      announce(title);
    }
    return this.main;
  }

  sidebar() {
    const items = PLACES.map(([name, iconName, label]) => {
      const link = h("a", { href: href(name) }, icon(iconName), label, name === "components" && this.counts);
      this.links.set(name, link);
      return h("li", {}, link);
    });
    const session = read("session");
    return h(
      "aside",
      { class: "sidebar", id: "sidebar", "aria-label": "Sidebar" },
      brand(),
      h("nav", { class: "nav", "aria-label": "Console" }, h("ul", {}, items)),
      h(
        "div",
        { class: "side-foot" },
        h(
          "div",
          { class: "who" },
          h("span", { class: "avatar", "aria-hidden": "true" }, session.name.slice(0, 1)),
          h("div", {}, h("div", { class: "name" }, session.name), h("div", { class: "role" }, session.role)),
        ),
        themeButton(),
        h("button", { type: "button", class: "button quiet small", "data-testid": "sign-out", on: { click: () => this.signOut() } }, icon("out"), "Sign out"),
      ),
    );
  }

  async signOut() {
    try {
      await remove("/session");
    } catch (error) {
      // Without an answer the cookie may live on; it must not look as if it were gone.
      if (error.status !== 401) {
        announce(`You are still signed in: ${error.detail}`);
        this.live.replaceChildren(icon("error"), "Not signed out");
        return;
      }
    }
    this.signedOut();
  }

  openMenu(open) {
    this.frame.dataset.menu = open ? "open" : "closed";
    this.toggle.setAttribute("aria-expanded", String(open));
  }

  showStatus(status) {
    const bad = status.components.filter((component) => component.status !== "ok").length;
    replace(this.counts, bad > 0 && badge(status.overall, status.overall, String(bad)));
    this.issuer.textContent = status.issuer ?? "";
    this.issuer.title = "The issuer that this gateway signs for";
    this.frame.querySelector(".version").textContent = status.version ? `Portcullis ${status.version}` : "Portcullis";
  }

  showLive() {
    const state = read("stream")?.state ?? "connecting";
    const age = lastHeard() ? Math.floor((Date.now() - lastHeard()) / 1000) : null;
    const before = this.live.dataset.state;
    this.live.dataset.state = state;
    let text = "Live";
    if (state === "connecting") text = "Connecting…";
    if (state === "down") text = age === null ? "Reconnecting…" : `Reconnecting · data is ${age} s old`;
    if (this.live.dataset.text !== text) {
      this.live.dataset.text = text;
      this.live.replaceChildren(icon(state === "live" ? "live" : "warning"), h("span", {}, text));
    }
    if (before && before !== state && state !== "connecting") {
      announce(state === "live" ? "The live stream is connected" : "The live stream is lost; the page tries to reconnect");
    }
  }
}

function brand() {
  return h("a", { class: "brand", href: href("") , "aria-label": "Portcullis, overview" }, mark(), h("span", { class: "word" }, "Portcullis"));
}

function foot() {
  return h("footer", { class: "foot" }, h("span", { class: "version" }, "Portcullis"), h("span", {}, "Times are UTC; hover for your own time zone."));
}
