// Whether this browser signed in lately. The session itself is a cookie that scripts cannot see;
// this note only spares a question whose answer is known: nobody is signed in.

const KEY = "portcullis.signed_in_until";

/** Notes until when the session can last. */
export function remember(session) {
  try {
    localStorage.setItem(KEY, session.expires_at);
  } catch (_storage_is_off) {
    // Then a reload asks for the token again.
  }
}

/** Forgets it. */
export function forget() {
  try {
    localStorage.removeItem(KEY);
  } catch (_storage_is_off) {
    // There is nothing to forget.
  }
}

/** Whether there may be a session. Decided by the gateway alone; a stale note costs one request. */
export function remembered() {
  try {
    return localStorage.getItem(KEY) !== null;
  } catch (_storage_is_off) {
    return false;
  }
}
