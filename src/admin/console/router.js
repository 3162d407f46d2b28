// Pages are fragments: `#/purges/ID`. A page is shown by a function that gets its parameters and
// a signal that aborts when the reader goes on to another one.

/** The path and its parts, decoded; an undecodable part is kept as it is. */
export function route() {
  const path = location.hash.replace(/^#\/?/, "");
  const parts = path.split("/").filter(Boolean).map(decode);
  return { page: parts[0] ?? "", parts: parts.slice(1) };
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch (_bad_escape) {
    return part;
  }
}

/** The address of a page: `href("purges", id)`. */
export function href(...parts) {
  return `#/${parts.map(encodeURIComponent).join("/")}`;
}

let leave = new AbortController();

/** Ends whatever page is shown. */
export function leavePage() {
  leave.abort();
  leave = new AbortController();
  return leave.signal;
}

/** Calls `show` now and at every change of the fragment. */
export function follow(show) {
  addEventListener("hashchange", show);
  show();
}
