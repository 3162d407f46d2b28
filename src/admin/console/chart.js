// What every chart shares: it is drawn again when its width changes, and it has a name in words.

import { h, s, uid } from "./dom.js";

/** A region whose chart `draw(width)` returns; `words` say what it shows. */
export function chart(words, draw) {
  const holder = h("div", { class: "chart" });
  const id = uid("chart");
  let drawn = 0;
  new ResizeObserver(([entry]) => {
    const width = Math.round(entry.contentRect.width);
    if (width < 40 || width === drawn) return;
    drawn = width;
    const { height, nodes } = draw(width);
    holder.replaceChildren(
      s("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-labelledby": id }, s("title", { id }, words), nodes),
    );
  }).observe(holder);
  return holder;
}

const TIME_STEPS = [1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800, 1_209_600, 2_592_000, 7_776_000];

/** Round times between `from` and `to`, at most `count`, with their labels. */
export function timeTicks(from, to, count) {
  const step = 1000 * (TIME_STEPS.find((seconds) => (to - from) / (seconds * 1000) <= count) ?? TIME_STEPS.at(-1));
  const ticks = [];
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) {
    const text = new Date(at).toISOString();
    let label = text.slice(11, 16);
    if (step < 60_000) label = text.slice(11, 19);
    else if (step >= 86_400_000 || text.slice(11, 16) === "00:00") label = dayLabel(at);
    ticks.push({ at, label });
  }
  return ticks;
}

function dayLabel(at) {
  return new Date(at).toLocaleDateString("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
}

/** A round number at or above the largest value, for the top of an axis. */
export function roundUp(value) {
  if (value <= 5) return Math.max(1, Math.ceil(value));
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((factor) => factor * unit).find((top) => top >= value);
}

/** One entry of a legend: a sample of the look, and its name. */
export function legendItem(className, text, shape = "rect") {
  const sample =
    shape === "rect"
      ? s("rect", { x: 1, y: 2, width: 22, height: 8, rx: 2, class: className })
      : s("path", { d: "M1 6h22", class: className });
  return h("li", {}, s("svg", { viewBox: "0 0 24 12", "aria-hidden": "true" }, sample), text);
}
