// Failures that a purge caused, over time, with the number of clients that are back as a line.

import { chart, legendItem, roundUp, timeTicks } from "./chart.js";
import { h, s } from "./dom.js";
import { compact, duration, number, plural } from "./format.js";

const HEIGHT = 220;
const LEFT = 44;
const RIGHT = 36;
const TOP = 12;
const FLOOR = HEIGHT - 28;

/** The chart of `failures_over_time`. */
export function failuresChart({ bucket_seconds: seconds, buckets }) {
  const size = seconds * 1000;
  const bars = buckets.map((bucket) => ({ at: Date.parse(bucket.at), failures: bucket.failures, recovered: bucket.recovered }));
  const total = bars.reduce((sum, bar) => sum + bar.failures, 0);
  const back = bars.reduce((sum, bar) => sum + bar.recovered, 0);
  const words = `${plural(total, "failure")} in steps of ${duration(size)}, the most in one step ${number(Math.max(0, ...bars.map((bar) => bar.failures)))}; ${plural(back, "client")} came back.`;
  return h(
    "figure",
    {},
    chart(words, (width) => draw(width, bars, size)),
    h("ul", { class: "legend" }, legendItem("bar-failures", `failures per ${duration(size)}`), legendItem("line-recovered", "clients back (right axis)", "line")),
    h("figcaption", { class: "visually-hidden" }, words),
  );
}

function draw(width, bars, size) {
  const from = bars[0].at;
  const to = Math.max(bars.at(-1).at + size, from + 12 * size);
  const peak = roundUp(Math.max(1, ...bars.map((bar) => bar.failures)));
  let sum = 0;
  const line = bars.map((bar) => ({ at: bar.at + size, back: (sum += bar.recovered) }));
  const most = roundUp(Math.max(1, sum));
  const x = (time) => LEFT + ((time - from) / (to - from)) * (width - LEFT - RIGHT);
  const y = (value, top) => FLOOR - (value / top) * (FLOOR - TOP);

  const nodes = [0, 0.5, 1].map((part) => [
    s("line", { class: part ? "grid" : "axis", x1: LEFT, x2: width - RIGHT, y1: y(part, 1), y2: y(part, 1) }),
    s("text", { x: LEFT - 8, y: y(part, 1) + 4, "text-anchor": "end" }, label(peak * part)),
    s("text", { x: width - RIGHT + 8, y: y(part, 1) + 4 }, label(most * part)),
  ]);
  for (const { at, label: text } of timeTicks(from, to, Math.max(2, Math.floor(width / 110)))) {
    nodes.push(s("text", { x: x(at), y: HEIGHT - 8, "text-anchor": "middle" }, text));
  }
  const bar = Math.max(1, x(from + size) - x(from) - 1.5);
  for (const { at, failures } of bars) {
    if (failures) nodes.push(s("rect", { class: "bar-failures", x: x(at), y: y(failures, peak), width: bar, height: FLOOR - y(failures, peak), rx: Math.min(2, bar / 2) }));
  }
  const points = [{ at: from, back: 0 }, ...line].map((point) => `${x(point.at).toFixed(1)},${y(point.back, most).toFixed(1)}`);
  nodes.push(s("polyline", { class: "line-recovered", points: points.join(" ") }));
  return { height: HEIGHT, nodes };
}

function label(value) {
  return Number.isInteger(value) ? compact(value) : "";
}
