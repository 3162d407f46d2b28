// How far the clients that a purge broke are back, as a bar and in words.

import { h, s, uid } from "./dom.js";
import { plural } from "./format.js";

/** Clients that neither are back nor have a new token. */
export function stillOut(recovery) {
  return Math.max(0, recovery.affected - Math.max(recovery.recovered, recovery.got_new_token));
}

/** A bar of those back, those with a new token, and the rest. */
export function recoveryBar(recovery) {
  const total = recovery.affected || 1;
  const back = (recovery.recovered / total) * 100;
  const token = (Math.max(0, recovery.got_new_token - recovery.recovered) / total) * 100;
  const out = recovery.affected ? 100 - back - token : 0;
  const title = uid("bar");
  const part = (x, width, name) => width > 0 && s("rect", { x, width, height: 10, class: name });
  return h(
    "div",
    { class: "progress" },
    s(
      "svg",
      { viewBox: "0 0 100 10", preserveAspectRatio: "none", role: "img", "aria-labelledby": title },
      s("title", { id: title }, recoveryWords(recovery)),
      part(0, back, "part-back"),
      part(back, token, "part-token"),
      part(back + token, out, "part-failing"),
    ),
  );
}

/** The same in a sentence. */
export function recoveryWords(recovery) {
  if (recovery.affected === 0) return "No client was refused because of it so far.";
  const { affected, recovered, got_new_token: token } = recovery;
  if (recovered === affected) return `All ${plural(affected, "affected client")} are back.`.replace("All 1 affected client are", "The one affected client is");
  return `${recovered} of ${plural(affected, "affected client")} back, ${token} with a new token.`;
}
