// What the whole page shares: the session, the newest status document, the state of the event
// stream, and revisions that tell a view that its data is old. Views subscribe for as long as
// they are shown.

const values = new Map();
const listeners = new Map();

/** The value of `key`; undefined before the first `set`. */
export function read(key) {
  return values.get(key);
}

/** Sets a value and tells the subscribers. */
export function set(key, value) {
  values.set(key, value);
  for (const listener of [...(listeners.get(key) ?? [])]) listener(value);
}

/** Forgets everything, at the end of a session. */
export function clear() {
  values.clear();
}

/** Calls `listener` with each new value until `signal` aborts. */
export function subscribe(key, listener, signal) {
  if (signal?.aborted) return;
  if (!listeners.has(key)) listeners.set(key, new Set());
  listeners.get(key).add(listener);
  signal?.addEventListener("abort", () => listeners.get(key).delete(listener), { once: true });
}
