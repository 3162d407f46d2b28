// A region of a page that shows the answer to a GET and keeps it fresh: asked again every so
// often, at events of the stream, and when the stream is back. What the reader has open, selected
// or focused is not taken away. A failure keeps the old data and says how old it is.

import { get } from "./api.js";
import { h, isBusy, replace } from "./dom.js";
import { clockTime, now } from "./format.js";
import { alertBox, problemBox } from "./parts.js";
import { subscribe } from "./store.js";

/** An answer that stays the same is drawn again this often, in milliseconds. */
const REDRAW = 5000;

/**
 * @param path of the GET below /admin/v1, or a function that gives it
 * @param load asks for the answer in another way; gets the options of `get`
 * @param draw makes the nodes of an answer
 * @param signal ends it
 * @param every milliseconds between two looks; 0 for never; may be a function of the answer
 * @param on names of the store's values that call for a look at once
 */
export function live({ path, load = (options) => get(typeof path === "function" ? path() : path, options), draw, signal, every = 0, on = [] }) {
  const notice = h("div", {});
  const body = h("div", { class: "stack" }, skeleton());
  const region = h("div", { class: "stack", "aria-busy": "true" }, notice, body);
  notice.hidden = true;
  let shown = null;
  let text = null;
  let timer = 0;
  let first = true;
  let asking = false;
  let again = false;

  async function look() {
    if (asking) {
      again = true;
      return;
    }
    asking = true;
    clearTimeout(timer);
    try {
      const answer = await load({ background: !first, signal });
      shown = answer;
      settle(answer);
    } catch (error) {
      if (error.name === "AbortError" || error.status === 401) return;
      failed(error);
    } finally {
      asking = false;
    }
    if (signal.aborted) return;
    if (again) {
      again = false;
      look();
      return;
    }
    const wait = typeof every === "function" ? every(shown) : every;
    if (wait) timer = setTimeout(() => (document.hidden ? whenSeen() : look()), wait);
  }

  function settle(answer) {
    first = false;
    notice.hidden = true;
    notice.replaceChildren();
    region.removeAttribute("aria-busy");
    region.dataset.at = new Date().toISOString();
    // The same answer can mean something else a moment later: a date in it has come.
    const next = JSON.stringify([answer, Math.floor(now() / REDRAW)]);
    if (next === text || isBusy(body)) return;
    text = next;
    replace(body, draw(answer));
  }

  function failed(error) {
    region.removeAttribute("aria-busy");
    if (first) {
      replace(body, problemBox("This could not be loaded", error, retryButton()));
    } else {
      const at = region.dataset.at ? clockTime(region.dataset.at) : "earlier";
      notice.hidden = false;
      replace(notice, alertBox("warning", "This is not up to date", h("p", {}, `${error.detail} What is shown is as of ${at} UTC.`)));
    }
  }

  function retryButton() {
    return h("div", { class: "row" }, h("button", { type: "button", class: "button small", on: { click: look } }, "Try again"));
  }

  function whenSeen() {
    const seen = () => {
      if (document.hidden) return;
      document.removeEventListener("visibilitychange", seen);
      if (!signal.aborted) look();
    };
    document.addEventListener("visibilitychange", seen);
  }

  signal.addEventListener("abort", () => clearTimeout(timer), { once: true });
  for (const key of [...on, "resync"]) subscribe(key, () => look(), signal);
  look();
  return { region, look, redraw: () => shown && replace(body, draw(shown)), answer: () => shown };
}

function skeleton() {
  return h("p", { class: "muted row" }, h("span", { class: "spinner", "aria-hidden": "true" }), "Loading…");
}
