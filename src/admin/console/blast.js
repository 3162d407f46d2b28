// The blast radius of a purge: upper bounds in numbers, tokens by key as bars, and the requests per
// second as a line that grows while the dialog is open.

import { get } from "./api.js";
import { chart, roundUp } from "./chart.js";
import { announce, h, replace, s } from "./dom.js";
import { clockTime, compact, number, rate, relative, shortKid } from "./format.js";
import { alertBox } from "./parts.js";

const EVERY = 2000;
const POINTS = 40;
/** Keys with a bar of their own. */
const BARS = 4;

/** A panel that asks for the preview until `signal` aborts. */
export function blastRadius(signal) {
  const body = h("div", { class: "blast", "data-testid": "blast" }, h("p", { class: "muted" }, "Counting…"));
  const stamp = h("span", { class: "muted small" });
  const element = h("section", { class: "panel" }, h("div", { class: "panel-head" }, h("h3", {}, "Blast radius of a purge"), stamp), h("div", { class: "panel-body" }, body));
  const rates = [];
  let said = false;

  async function look() {
    try {
      const preview = await get("/keys/preview?purge=true", { background: true, signal });
      rates.push(preview.requests_per_second);
      if (rates.length > POINTS) rates.shift();
      stamp.textContent = `upper bounds, counted at ${clockTime(preview.computed_at)}`;
      replace(body, draw(preview, rates));
      if (!said) announce(`A purge would break up to ${number(preview.live_tokens)} tokens of ${number(preview.clients)} clients.`);
      said = true;
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!said) replace(body, alertBox("warning", "The blast radius is not known", h("p", {}, error.detail)));
      else stamp.textContent = "not up to date: no answer";
    }
    if (!signal.aborted) setTimeout(() => signal.aborted || look(), EVERY);
  }
  look();
  return {
    element,
    /** Shows whether it is what will happen, or what could. */
    heat: (hot) => body.classList.toggle("hot", hot),
  };
}

function draw(preview, rates) {
  const bound = (value, exact) => `${exact ? "" : "≤ "}${number(value)}`;
  return [
    h(
      "dl",
      { class: "blast-numbers" },
      figure("Live tokens", `≤ ${number(preview.live_tokens)}`),
      figure("Clients", bound(preview.clients, preview.clients_exact)),
      figure("Requests per second", rate(preview.requests_per_second)),
      figure("Clients calling now", bound(preview.requesting_clients, preview.requesting_clients_exact)),
    ),
    preview.uncounted_tokens && h("p", { class: "small muted" }, "An imported key is among them: tokens of its former system are not counted."),
    chart(words(preview), (width) => picture(width, preview.keys, rates)),
    h("p", { class: "small muted" }, `A plain Rotate breaks none of them, and would have replaced them all ${relative(preview.rotate_instead_over_at)}.`),
  ];
}

function figure(name, value) {
  return h("div", {}, h("dt", {}, name), h("dd", {}, value));
}

function words(preview) {
  const keys = preview.keys.map((key) => `${key.state} key ${shortKid(key.kid)}: ${number(key.live_tokens)}`);
  return `Live tokens by key: ${keys.join(", ")}. Requests per second: ${rate(preview.requests_per_second)}.`;
}

/** Bars to the left, the line to the right; one below the other where it is narrow. */
function picture(width, keys, rates) {
  const narrow = width < 480;
  const all = keys.filter((key) => key.state !== "pending").sort((a, b) => b.live_tokens - a.live_tokens);
  const [shown, rest] = [all.slice(0, BARS), all.slice(BARS)];
  const half = narrow ? width : Math.floor(width * 0.54);
  const top = Math.max(1, ...shown.map((key) => key.live_tokens));
  const nodes = [s("text", { class: "strong", x: 0, y: 12 }, "Live tokens by key")];
  shown.forEach((key, index) => {
    const y = 22 + index * 24;
    const room = half - 190;
    nodes.push(
      s("text", { class: "mono-text", x: 0, y: y + 12 }, shortKid(key.kid)),
      s("rect", { class: "bar-track", x: 116, y, width: room, height: 14, rx: 3 }),
      key.live_tokens > 0 && s("rect", { class: "bar-tokens", x: 116, y, width: Math.max(2, (key.live_tokens / top) * room), height: 14, rx: 3 }),
      s("text", { x: 116 + room + 8, y: y + 12 }, compact(key.live_tokens)),
    );
  });
  if (rest.length > 0) {
    const tokens = rest.reduce((sum, key) => sum + key.live_tokens, 0);
    nodes.push(s("text", { x: 0, y: 22 + shown.length * 24 + 12 }, `and ${number(rest.length)} more: ${compact(tokens)}`));
  }
  const bars = 22 + Math.max(1, shown.length + (rest.length > 0 ? 1 : 0)) * 24;
  const offset = narrow ? { x: 0, y: bars + 10 } : { x: half + 10, y: 0 };
  nodes.push(line(offset, narrow ? width : width - half - 10, narrow ? 70 : Math.max(70, bars), rates));
  return { height: narrow ? bars + 80 : Math.max(bars, 74), nodes };
}

function line(offset, width, height, rates) {
  const top = roundUp(Math.max(1, ...rates));
  const [floor, ceiling] = [height - 6, 22];
  const step = width / (POINTS - 1);
  const start = width - (rates.length - 1) * step;
  const point = (value, index) => [start + index * step, floor - (value / top) * (floor - ceiling)];
  const points = rates.map((value, index) => point(value, index).map((part) => part.toFixed(1)).join(","));
  const [x, y] = point(rates.at(-1), rates.length - 1);
  return s(
    "g",
    { transform: `translate(${offset.x} ${offset.y})` },
    s("text", { class: "strong", x: 0, y: 12 }, "Requests per second"),
    s("text", { x: width, y: 12, "text-anchor": "end" }, `top of scale ${compact(top)}`),
    s("line", { class: "axis", x1: 0, x2: width, y1: floor, y2: floor }),
    rates.length > 1 && s("polygon", { class: "area-rate", points: `${start.toFixed(1)},${floor} ${points.join(" ")} ${width},${floor}` }),
    rates.length > 1 && s("polyline", { class: "line-rate", points: points.join(" ") }),
    s("circle", { class: "dot-rate", cx: x - 2, cy: y, r: 3 }),
  );
}
