// How far the clients that a purge broke are back, as a bar and in words; and the alarm when one
// of its keys is used by somebody who can only have stolen it.

import { h, s, uid } from "./dom.js";
import { plural } from "./format.js";
import { ago, alertBox, badge, when } from "./parts.js";
import { href } from "./router.js";

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

/** Whether a key of this purge was used after it. */
export function isMisused(purge) {
  return purge.recovery.compromised_key_uses > 0;
}

/** The alarm of one purge, for its board. */
export function misuseAlarm({ recovery }) {
  const { compromised_key_uses: uses, compromised_first_used_at: first, compromised_last_used_at: last } = recovery;
  return alertBox(
    "error",
    "A key of this purge is in other hands",
    h("p", {}, `${plural(uses, "request")} came with a token that it signed after the purge: nobody legitimate can have done that. All were refused.`),
    h("p", {}, first && ["First ", when(first, { inline: true })], last && [", last ", when(last, { inline: true })], "."),
    h("p", {}, "Look in the ", h("a", { href: href("logs") }, "log"), " for where they come from."),
  );
}

/** The same in a line, for lists. */
export function misuseBadge({ recovery }) {
  return h("div", { class: "stack-s" }, badge("error", "error", "key in other hands"), h("span", { class: "small" }, plural(recovery.compromised_key_uses, "use"), recovery.compromised_last_used_at && [", last ", ago(recovery.compromised_last_used_at)]));
}
