// The audit: one record for each revision of the key set, newest first, and whether the chain that
// ties them together is whole.

import { may } from "./actions.js";
import { get } from "./api.js";
import { h } from "./dom.js";
import { actor, number, shortKid, words } from "./format.js";
import { live } from "./live.js";
import { pageHead } from "./page.js";
import { alertBox, card, empty, table, toast, when } from "./parts.js";

const PAGE = 50;

/** Draws the page. */
export function auditView({ main, signal }) {
  main.append(pageHead("Audit", "Who did what to the keys, and when: one record for each revision, chained so that nothing can be taken out unseen."));
  if (!may("operator")) {
    main.append(card("Audit", {}, empty("lock", "The audit is for operators", "It names people and their reasons. Sign in with a token of the role operator or admin.")));
    return;
  }
  let older = [];
  let next;
  const view = live({ path: `/audit?limit=${PAGE}`, on: ["keys"], signal, draw });

  function draw(audit) {
    if (older.length === 0) next = audit.next;
    const known = new Set(audit.records.map((record) => record.revision));
    return [verdict(audit), records([...audit.records, ...older.filter((record) => !known.has(record.revision))])];
  }

  function records(list) {
    if (list.length === 0) return card("Records", {}, empty("audit", "No records", "The first one is written with the first key set."));
    return card(
      "Records",
      { flush: true, testid: "audit" },
      table(
        "Audit records, newest first",
        [
          { title: "Revision", className: "lead", cell: (record) => h("strong", {}, `#${number(record.revision)}`) },
          { title: "When", cell: (record) => when(record.at) },
          { title: "What", cell: (record) => words(record.event) },
          { title: "Who", cell: (record) => actor(record.actor) },
          { title: "Why", cell: (record) => record.reason ?? h("span", { class: "muted" }, "–") },
          { title: "Keys", className: "wide", cell: keys },
        ],
        list,
        { className: "dense", key: (record) => record.revision },
      ),
      next && h("div", { class: "more" }, h("button", { type: "button", class: "button small", "data-key": "more", on: { click: more } }, "Show older records")),
    );
  }

  async function more(event) {
    event.target.disabled = true;
    try {
      const page = await get(`/audit?limit=${PAGE}&before=${next}`, { signal });
      older = [...older, ...page.records];
      next = page.next;
      view.redraw();
    } catch (error) {
      if (error.name !== "AbortError") toast(error.detail);
      event.target.disabled = false;
    }
  }

  main.append(view.region);
}

function verdict(audit) {
  if (audit.verified) return alertBox("ok", "The chain is whole", h("p", {}, "Every line is what this gateway wrote, and follows the one before it."));
  const problem = audit.problem;
  return alertBox(
    "error",
    "The chain is broken",
    h("p", {}, problem ? `Line ${problem.line}: ${problem.rule}` : "The log could not be verified."),
    h("p", {}, "Somebody changed the audit log, or it was damaged. Keep the file; ", h("code", {}, "portcullis audit verify"), " says more."),
  );
}

const ROLES = [
  ["activated", "signs now"],
  ["deprecated", "verifies on"],
  ["published", "published"],
  ["restored", "restored"],
  ["imported", "imported"],
  ["purged", "purged"],
  ["retired", "retired"],
  ["compromised", "compromised"],
];

function keys(record) {
  const list = ROLES.flatMap(([name, text]) => [record[name] ?? []].flat().map((one) => h("span", { title: one }, h("span", { class: "muted small" }, `${text} `), h("span", { class: "kid" }, shortKid(one)))));
  return h("div", { class: "chain-keys" }, list.length ? list : h("span", { class: "muted" }, "–"));
}
