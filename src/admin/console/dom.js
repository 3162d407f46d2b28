// Builds the page's nodes. Data becomes text nodes and attributes only: nothing here, or anywhere
// else in the console, parses HTML. `style` attributes are not used, the Content-Security-Policy
// refuses them.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element. `on` holds listeners; a false, null or undefined attribute or child is left out. */
export function h(tag, attributes, ...children) {
  return build(document.createElement(tag), attributes, children);
}

/** An SVG element. */
export function s(tag, attributes, ...children) {
  return build(document.createElementNS(SVG, tag), attributes, children);
}

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") {
      for (const [type, listener] of Object.entries(value)) element.addEventListener(type, listener);
    } else {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  element.append(...flat(children));
  return element;
}

function flat(children) {
  return children
    .flat(Infinity)
    .filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (child instanceof Node ? child : String(child)));
}

/**
 * Gives `region` new children and keeps what the reader did to the old ones: the focus and what
 * is folded open, found again by `data-key`.
 */
export function replace(region, ...children) {
  const focused = region.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const folds = new Map();
  for (const fold of region.querySelectorAll("details[data-key]")) folds.set(fold.dataset.key, fold.open);
  region.replaceChildren(...flat(children));
  for (const fold of region.querySelectorAll("details[data-key]")) {
    if (folds.has(fold.dataset.key)) fold.open = folds.get(fold.dataset.key);
  }
  if (focused) region.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

/** Whether the reader is at work in `region`: new children would take it away from them. */
export function isBusy(region) {
  if (region.querySelector("[aria-expanded='true']")) return true;
  const selection = getSelection();
  return Boolean(selection && !selection.isCollapsed && region.contains(selection.anchorNode));
}

/** An identifier for `aria-labelledby` and its kind. */
export function uid(prefix) {
  uid.next = (uid.next ?? 0) + 1;
  return `${prefix}-${uid.next}`;
}

/** Says `text` to a screen reader. */
export function announce(text) {
  const region = document.querySelector("dialog[open] [data-announcer]") ?? document.getElementById("announcer");
  // The same text twice would not be read twice.
  region.textContent = region.textContent === text ? `${text}\u00a0` : text;
}
