// The runbook of this version, or one section of it: what to look at and to do. It is a file of the
// gateway's own, in Markdown; the little of it that the runbook uses becomes nodes here.

import { h } from "./dom.js";
import { pageHead } from "./page.js";
import { card, empty, scrollable } from "./parts.js";
import { href } from "./router.js";

const FILE = "/console/runbook.md";

/** Draws the section that the first part of the address names, or the whole. */
export async function runbookView({ main, parts, signal }) {
  const [wanted] = parts;
  main.append(pageHead("Runbook", "What to look at and what to do, for each alert and for a rotation that failed."));
  let text;
  try {
    const response = await fetch(FILE, { signal, credentials: "same-origin" });
    if (!response.ok) throw new Error(`status ${response.status}`);
    text = await response.text();
  } catch (error) {
    if (error.name === "AbortError") return;
    main.append(card("Runbook", {}, empty("error", "The runbook could not be fetched", "The gateway may be restarting. It is docs/runbook.md of this version, too.")));
    return;
  }
  const all = sections(text);
  const shown = wanted ? all.filter((section) => section.slug === wanted) : all;
  if (shown.length === 0) main.append(card("Runbook", {}, empty("info", "There is no such section", h("a", { href: href("runbook") }, "The whole runbook"))));
  for (const section of shown) {
    main.append(card(section.title, { testid: "runbook", aside: wanted && h("a", { class: "small", href: href("runbook") }, "The whole runbook") }, h("div", { class: "runbook" }, blocks(section.lines))));
  }
}

/** The address of a section: its title in lower case, with `-` for spaces. */
export function slug(title) {
  return title.toLowerCase().replace(/[^a-z0-9 -]/g, "").replaceAll(" ", "-");
}

/** Cut before each heading of the second level. */
function sections(text) {
  const all = [];
  for (const line of text.split("\n")) {
    if (line.startsWith("## ")) all.push({ title: line.slice(3), slug: slug(line.slice(3)), lines: [] });
    else if (!line.startsWith("# ")) all.at(-1)?.lines.push(line);
  }
  return all;
}

function blocks(lines) {
  const nodes = [];
  for (let at = 0; at < lines.length; ) {
    const from = at;
    const take = (is) => {
      while (at < lines.length && is(lines[at])) at += 1;
      return lines.slice(from, at);
    };
    const line = lines[at];
    if (line.startsWith("```")) {
      at += 1;
      const code = take((one) => !one.startsWith("```")).slice(1);
      at += 1;
      nodes.push(h("pre", { tabindex: "0" }, h("code", {}, code.join("\n"))));
    } else if (line.startsWith("### ")) {
      at += 1;
      nodes.push(h("h3", { id: slug(line.slice(4)) }, line.slice(4)));
    } else if (line.startsWith("|")) {
      nodes.push(table(take((one) => one.startsWith("|"))));
    } else if (/^(-|\d+\.) /.test(line)) {
      nodes.push(list(take((one) => /^(-|\d+\.) /.test(one) || /^ +\S/.test(one))));
    } else if (line.trim() === "") {
      at += 1;
    } else {
      nodes.push(h("p", {}, inline(take((one) => one.trim() !== "" && !/^(\||```|### |- |\d+\. )/.test(one)).join(" "))));
    }
  }
  return nodes;
}

function table(lines) {
  const cells = (line) => line.slice(1, line.lastIndexOf("|")).split("|").map((cell) => cell.trim());
  const [head, , ...rows] = lines.map(cells);
  return scrollable(
    head.join(", "),
    h(
      "table",
      { class: "table" },
      h("thead", {}, h("tr", {}, head.map((cell) => h("th", { scope: "col" }, inline(cell))))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell) => h("td", {}, inline(cell)))))),
    ),
  );
}

function list(lines) {
  const items = [];
  for (const line of lines) {
    const item = /^(?:-|\d+\.) (.*)/.exec(line);
    if (item) items.push(item[1]);
    else items[items.length - 1] += ` ${line.trim()}`;
  }
  return h(/^\d/.test(lines[0]) ? "ol" : "ul", {}, items.map((item) => h("li", {}, inline(item))));
}

/** Code, emphasis, and links; a link to another document shows its text alone. */
function inline(text) {
  const nodes = [];
  let rest = text;
  for (let found; (found = /`([^`]+)`|\*\*([^*]+)\*\*|\*([^*]+)\*|\[([^\]]+)\]\(([^)]+)\)/.exec(rest)); ) {
    nodes.push(rest.slice(0, found.index));
    const [whole, code, strong, soft, label, target] = found;
    if (code) nodes.push(h("code", {}, code));
    else if (strong) nodes.push(h("strong", {}, strong));
    else if (soft) nodes.push(h("em", {}, soft));
    else nodes.push(target.startsWith("#") ? h("a", { href: href("runbook") }, inline(label)) : h("span", {}, inline(label)));
    rest = rest.slice(found.index + whole.length);
  }
  return [...nodes, rest];
}
