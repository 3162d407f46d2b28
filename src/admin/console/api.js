// The admin API as the console calls it: same origin, the session's cookie, JSON in and out. What
// the gateway refuses becomes an ApiError with its code, words and Log ID.

const BASE = "/admin/v1";

/** An answer that is not 2xx, or no answer at all (`status` 0). */
export class ApiError extends Error {
  constructor({ status, code, detail, logId = null, retryAfter = null, rule = null }) {
    super(detail);
    this.name = "ApiError";
    Object.assign(this, { status, code, detail, logId, retryAfter, rule });
  }
}

let onSignedOut = () => {};

/** Who is told when the session is over. */
export function whenSignedOut(listener) {
  onSignedOut = listener;
}

/** GET; `background` for what nobody asked for just now: it does not keep a session alive. */
export function get(path, { background = false, signal } = {}) {
  return call("GET", path, { background, signal });
}

/** POST with a JSON body. */
export function post(path, body, { headers = {}, signal } = {}) {
  return call("POST", path, { body, headers, signal });
}

/** DELETE. */
export function remove(path) {
  return call("DELETE", path, {});
}

async function call(method, path, { body, headers = {}, background = false, signal }) {
  const all = { Accept: "application/json", "X-Portcullis-Request": "1", ...headers };
  if (background) all["X-Portcullis-Background"] = "1";
  if (body !== undefined) all["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(BASE + path, {
      method,
      headers: all,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin",
      cache: "no-store",
      redirect: "error",
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError({
      status: 0,
      code: "NO_ANSWER",
      detail: "The gateway did not answer. It may be restarting, or the connection to it is lost.",
    });
  }
  const text = await response.text();
  const value = parse(text);
  if (response.ok) return value;
  const error = problem(response, value);
  if (response.status === 401 && error.code === "UNAUTHENTICATED") onSignedOut();
  throw error;
}

function parse(text) {
  try {
    return text ? JSON.parse(text) : null;
  } catch (_not_json) {
    return null;
  }
}

function problem(response, value) {
  const retry = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  return new ApiError({
    status: response.status,
    code: value?.code ?? "HTTP",
    detail: value?.detail ?? `The gateway answered ${response.status}.`,
    logId: value?.log_id ?? null,
    retryAfter: Number.isFinite(retry) ? retry : null,
    rule: value?.rule ?? null,
  });
}

/** A key for `Idempotency-Key`; `crypto.randomUUID` exists in secure contexts only. */
export function idempotencyKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
