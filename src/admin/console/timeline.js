// Keys over time: a lane for each key, from publication over signing to the end of verification;
// the past solid, the plan dashed, with the present and the next automatic rotation as lines.

import { chart, legendItem, timeTicks } from "./chart.js";
import { h, s } from "./dom.js";
import { absolute, now, number, shortKid } from "./format.js";

/** Lanes in all, and of live keys alone. */
const LANES = 10;
const LIVE_LANES = 12;
const BAR = 14;

/** The picture of a key set (the answer of `GET keys`). */
export function timeline(set) {
  const present = now();
  const next = Date.parse(set.next_rotation_at);
  const lanes = lanesOf(set, present, next);
  const hidden = set.keys.length - Math.min(set.keys.length, LIVE_LANES);
  const [from, to] = range(lanes, present, next);
  const words =
    `${set.keys.length} live keys and ${set.tombstones.length} ended ones between ${absolute(new Date(from).toISOString())} ` +
    `and ${absolute(new Date(to).toISOString())}; the same dates are in the tables below.`;
  return h(
    "figure",
    { "data-testid": "timeline" },
    chart(words, (width) => draw(width, lanes, [from, to], present, next)),
    hidden > 0 && h("p", { class: "small muted" }, `and ${number(hidden)} more that verify; all of them are in the table below`),
    h(
      "ul",
      { class: "legend" },
      legendItem("seg-pending", "stands ready"),
      legendItem("seg-active", "signs"),
      legendItem("seg-deprecated", "verifies"),
      legendItem("seg-plan", "as planned"),
      legendItem("mark-purged", "purged", "line"),
      legendItem("now", "now", "line"),
      legendItem("next", "next automatic rotation", "line"),
    ),
  );
}

const at = (iso) => (iso ? Date.parse(iso) : null);

function lanesOf(set, present, next) {
  const live = [...set.keys]
    .sort((a, b) => order(a) - order(b))
    .slice(0, LIVE_LANES)
    .map((key) => liveLane(key, present, next));
  const ended = [...set.tombstones]
    .sort((a, b) => at(b.ended_at) - at(a.ended_at))
    .slice(0, Math.max(0, LANES - live.length))
    .map(endedLane);
  return [...live, ...ended];
}

function order(key) {
  if (key.state === "pending") return 0;
  if (key.state === "active") return 1;
  return 2 + (Date.now() - at(key.deprecated_at)) / 1e13;
}

function liveLane(key, present, next) {
  const segments = [];
  const add = (className, from, to) => from !== null && to !== null && to > from && segments.push({ className, from, to });
  const published = at(key.published_at) ?? at(key.created_at);
  if (key.state === "pending") {
    add("seg-pending", published, Math.max(next, present));
  } else {
    add("seg-pending", published, at(key.activated_at));
    if (key.state === "active") {
      add("seg-active", at(key.activated_at), present);
      add("seg-plan", Math.max(present, at(key.activated_at)), next);
    } else {
      const [since, until] = [at(key.deprecated_at), at(key.verify_until)];
      add("seg-was-active", at(key.activated_at), since);
      add("seg-deprecated", since, Math.min(present, until));
      add("seg-deprecated-plan", Math.max(present, since), until);
    }
  }
  return { name: key.kid, state: key.state, segments, mark: null };
}

function endedLane(key) {
  const end = at(key.ended_at);
  const segments = [];
  const [activated, deprecated] = [at(key.activated_at), at(key.deprecated_at)];
  // Without the date between the two, when it signed and when it only verified cannot be told apart.
  const signed = deprecated === null && key.state === "retired" ? "seg-ended" : "seg-was-active";
  if (activated !== null) segments.push({ className: signed, from: activated, to: deprecated ?? end });
  if (deprecated !== null) segments.push({ className: "seg-was-deprecated", from: deprecated, to: end });
  return { name: key.kid, state: key.state, segments, mark: { at: end, className: `mark-${key.state}` } };
}

/** All of the plan, and of the past as much again as three rotations, so that the bars stay legible. */
function range(lanes, present, next) {
  const edges = lanes.flatMap((lane) => [...lane.segments.flatMap((one) => [one.from, one.to]), ...(lane.mark ? [lane.mark.at] : [])]);
  const end = Math.max(present, next, ...edges.filter(Number.isFinite));
  const oldest = Math.min(present, ...edges.filter(Number.isFinite));
  const from = Math.max(oldest, present - 3 * Math.max(end - present, 60_000));
  const margin = (end - from) * 0.03;
  return [from - margin, end + margin];
}

function draw(width, lanes, [from, to], present, next) {
  const narrow = width < 620;
  const left = narrow ? 0 : 190;
  const lane = narrow ? 42 : 30;
  const top = 24;
  const bottom = top + lanes.length * lane;
  const x = (time) => left + ((time - from) / (to - from)) * (width - left);
  const clamp = (time) => Math.min(Math.max(time, from), to);

  const nodes = narrow ? [] : lanes.map((_, index) => index % 2 === 0 && s("rect", { class: "lane", x: 0, y: top + index * lane, width, height: lane }));
  for (const { at: tick, label } of timeTicks(from, to, Math.max(2, Math.floor((width - left) / 90)))) {
    nodes.push(s("line", { class: "grid", x1: x(tick), x2: x(tick), y1: top, y2: bottom }), s("text", { x: x(tick), y: bottom + 18, "text-anchor": "middle" }, label));
  }
  lanes.forEach((one, index) => {
    const y = top + index * lane;
    const bar = narrow ? y + 20 : y + (lane - BAR) / 2;
    nodes.push(
      s("text", { class: "mono-text", x: 4, y: narrow ? y + 14 : bar + 11 }, shortKid(one.name)),
      s("text", { x: narrow ? 118 : 108, y: narrow ? y + 14 : bar + 11 }, one.state),
    );
    for (const segment of one.segments) {
      const [start, end] = [x(clamp(segment.from)), x(clamp(segment.to))];
      if (end - start < 0.5) continue;
      nodes.push(s("rect", { class: segment.className, x: start, y: bar, width: Math.max(end - start, 2), height: BAR, rx: 3 }));
    }
    if (one.mark && one.mark.at >= from) {
      nodes.push(s("line", { class: one.mark.className, x1: x(one.mark.at), x2: x(one.mark.at), y1: bar - 3, y2: bar + BAR + 3 }));
    }
  });
  nodes.push(
    s("line", { class: "now", x1: x(present), x2: x(present), y1: top - 4, y2: bottom }),
    s("text", { class: "strong", x: x(present), y: top - 9, "text-anchor": "middle" }, "now"),
  );
  if (next > present) {
    const near = x(next) - x(present) < 90;
    nodes.push(s("line", { class: "next", x1: x(next), x2: x(next), y1: top - 4, y2: bottom }));
    if (!near) nodes.push(s("text", { class: "next-text", x: x(next), y: top - 9, "text-anchor": "end" }, "next rotation"));
  }
  return { height: bottom + 26, nodes };
}
