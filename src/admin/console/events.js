// The live stream (server-sent events). When it breaks it is opened again, later and later up to
// ten seconds; meanwhile the status is asked for, and the page says how old its data is.

import { get } from "./api.js";
import { setServerNow } from "./format.js";
import { read, set } from "./store.js";

/** A stream that says nothing for so long is taken for dead: it ticks every 5 s. */
const SILENCE = 13_000;
const FIRST_WAIT = 1_000;
const LONGEST_WAIT = 10_000;

let source = null;
let wait = FIRST_WAIT;
let timer = 0;
let watchdog = 0;

/** Opens the stream, for as long as somebody is signed in. */
export function start() {
  stop();
  set("stream", { state: "connecting" });
  open();
  watchdog = setInterval(watch, 1_000);
}

/** Closes it for good. */
export function stop() {
  clearTimeout(timer);
  clearInterval(watchdog);
  source?.close();
  source = null;
}

/** When the newest data came, in milliseconds of this computer's clock; 0 before any. */
export function lastHeard() {
  return read("heard") ?? 0;
}

function open() {
  source = new EventSource("/admin/v1/events");
  const stream = source;
  const on = (type, listener) =>
    stream.addEventListener(type, (event) => {
      if (stream !== source) return;
      let data;
      try {
        data = JSON.parse(event.data);
      } catch (_broken_event) {
        return;
      }
      heard();
      if (data.now) setServerNow(data.now);
      listener(data);
    });
  on("status", (status) => set("status", status));
  on("keys", (keys) => set("keys", keys.revision));
  on("clients", (clients) => set("clients", clients.revision));
  on("purge", (purge) => set("purge", purge.purge_id));
  on("tick", () => {});
  stream.addEventListener("error", () => {
    if (stream === source) lost();
  });
}

function heard() {
  set("heard", Date.now());
  wait = FIRST_WAIT;
  if (read("stream")?.state === "live") return;
  const first = !read("stream")?.wasLive;
  set("stream", { state: "live", wasLive: true });
  // Whatever happened meanwhile was not told: every view asks again.
  if (!first) set("resync", Date.now());
}

function lost() {
  source?.close();
  source = null;
  set("stream", { state: "down", wasLive: read("stream")?.wasLive });
  clearTimeout(timer);
  timer = setTimeout(retry, wait);
  wait = Math.min(wait * 2, LONGEST_WAIT);
}

async function retry() {
  try {
    // Tells a lost session from a lost gateway, and keeps the status fresh without a stream.
    const status = await get("/status", { background: true });
    setServerNow(status.now);
    set("heard", Date.now());
    set("status", status);
  } catch (error) {
    if (error.status === 401) return;
  }
  if (source === null && read("session")) open();
}

function watch() {
  const silent = Date.now() - lastHeard();
  if (source && read("stream")?.state === "live" && silent > SILENCE) lost();
  set("age", silent);
}
