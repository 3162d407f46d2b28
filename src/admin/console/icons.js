// The icons, as paths on a grid of 24. They are decoration: what they mean is always said in text.

import { s } from "./dom.js";

const PATHS = {
  ok: ["M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18Z", "m8 12.2 2.8 2.8L16 9.6"],
  warning: ["M12 4 2.8 20h18.4L12 4Z", "M12 10v4.5", "M12 17.4v.1"],
  error: ["M8.3 3h7.4L21 8.3v7.4L15.7 21H8.3L3 15.7V8.3L8.3 3Z", "m9 9 6 6", "m15 9-6 6"],
  info: ["M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18Z", "M12 11v5.5", "M12 7.6v.1"],
  unknown: ["M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18Z", "M8 12h8"],
  home: ["m3 11 9-7 9 7", "M5.5 9.5V20h13V9.5", "M10 20v-6h4v6"],
  components: ["M4 4h7v7H4z", "M13 4h7v7h-7z", "M4 13h7v7H4z", "M16.5 13v7", "M13 16.5h7"],
  key: ["M8 11a4 4 0 1 0 0 8 4 4 0 0 0 0-8Z", "m10.9 12.1 8.6-8.6", "m15.5 7.5 3 3", "m18 5 2.5 2.5"],
  purge: ["M12 3c1 4 6 6 6 11a6 6 0 0 1-12 0c0-2 1-3.5 2-4.5 0 2 1 3 2 3 0-3.5 0-6 2-9.500Z"],
  clients: ["M9 5a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7Z", "M2.5 20c.5-4 3-5.5 6.5-5.500s6 1.5 6.5 5.5", "M16 5.500a3 3 0 0 1 0 6", "M17.5 14.600c2.4.5 3.7 2.2 4 5.4"],
  audit: ["M6 3h9l4 4v14H6z", "M14 3v5h5", "m9 14.5 2 2 4-4"],
  logs: ["M4 6h16", "M4 11h10", "M4 16h7", "M16.5 13a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7Z", "m19 19.5 2.5 2"],
  runbook: ["M4 5h5.500a2.5 2.5 0 0 1 2.5 2.500V20a2 2 0 0 0-2-2H4z", "M20 5h-5.500A2.5 2.5 0 0 0 12 7.500V20a2 2 0 0 1 2-2h6z"],
  copy: ["M9 9h11v11H9z", "M5 15H4V4h11v1"],
  done: ["m5 12.5 4.5 4.500L19 7"],
  chevron: ["m9 6 6 6-6 6"],
  down: ["m6 9 6 6 6-6"],
  close: ["m6 6 12 12", "m18 6-12 12"],
  menu: ["M4 7h16", "M4 12h16", "M4 17h16"],
  rotate: ["M20 11a8 8 0 0 0-14.5-3.500L4 9", "M4 4v5h5", "M4 13a8 8 0 0 0 14.5 3.500L20 15", "M20 20v-5h-5"],
  undo: ["M9 14 4 9l5-5", "M4 9h10a6 6 0 0 1 0 12h-3"],
  clock: ["M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18Z", "M12 7.500V12l3 2"],
  search: ["M10.5 4a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13Z", "m15.5 15.5 5 5"],
  sun: ["M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8Z", "M12 2.500V5", "M12 19v2.5", "M2.5 12H5", "M19 12h2.5", "m5.3 5.3 1.8 1.8", "m16.9 16.9 1.8 1.8", "m5.3 18.7 1.8-1.8", "m16.9 7.1 1.8-1.8"],
  moon: ["M20 14.500A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.500Z"],
  auto: ["M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18Z", "M12 3v18", "M12 8h7.5", "M12 12h9", "M12 16h7.5"],
  out: ["M10 4H5v16h5", "M14 8l4 4-4 4", "M18 12H9"],
  plus: ["M12 5v14", "M5 12h14"],
  lock: ["M6 11h12v9H6z", "M8.5 11V8a3.5 3.5 0 0 1 7 0v3"],
  eye: ["M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12Z", "M12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6Z"],
  live: ["M12 8.500a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7Z", "M6 6a8.5 8.5 0 0 0 0 12", "M18 6a8.5 8.5 0 0 1 0 12"],
  ban: ["M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18Z", "m5.8 5.8 12.4 12.4"],
  trash: ["M4 6.500h16", "M9 6V4h6v2", "m6 6.5 1 13.500h10l1-13.5"],
  back: ["M19 12H5", "m11 6-6 6 6 6"],
};

/** An icon by name. */
export function icon(name, className = "") {
  const paths = (PATHS[name] ?? PATHS.unknown).map((d) => s("path", { d }));
  return s(
    "svg",
    {
      class: `icon ${className}`.trim(),
      viewBox: "0 0 24 24",
      fill: "none",
      stroke: "currentColor",
      "stroke-width": 1.8,
      "stroke-linecap": "round",
      "stroke-linejoin": "round",
      "aria-hidden": "true",
      focusable: "false",
    },
    paths,
  );
}

/** The product's mark: a gate. */
export function mark() {
  return s(
    "svg",
    { class: "mark", viewBox: "0 0 32 32", "aria-hidden": "true", focusable: "false" },
    s("rect", { width: 32, height: 32, rx: 7, fill: "#3451c6" }),
    s("path", {
      d: "M8 25V14a8 8 0 0 1 16 0v11M13.3 7v18M18.7 7v18M8 14.5h16M8 20h16",
      fill: "none",
      stroke: "#fff",
      "stroke-width": 2.2,
      "stroke-linecap": "round",
    }),
  );
}
