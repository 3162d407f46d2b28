// The console's entry: who is signed in, which page is shown, what keeps running beside it.

import { get, whenSignedOut } from "./api.js";
import { closeDialogs } from "./dialog.js";
import { start as startEvents, stop as stopEvents } from "./events.js";
import { tickTimes } from "./parts.js";
import { follow, leavePage, route } from "./router.js";
import { forget, remembered } from "./session.js";
import { Shell } from "./shell.js";
import { clear, read, set } from "./store.js";
import { auditView } from "./view_audit.js";
import { clientsView } from "./view_clients.js";
import { componentsView } from "./view_components.js";
import { homeView } from "./view_home.js";
import { keysView } from "./view_keys.js";
import { logsView } from "./view_logs.js";
import { purgeView } from "./view_purge.js";
import { purgesView } from "./view_purges.js";
import { runbookView } from "./view_runbook.js";
import { signIn } from "./view_signin.js";

const app = document.getElementById("app");

/** The pages: title and view; a view gets where to draw, what follows its name, and a signal. */
const PAGES = {
  "": ["Overview", homeView],
  components: ["Component Monitor", componentsView],
  keys: ["Signing keys", keysView],
  purges: ["Purges", (page) => (page.parts.length ? purgeView(page) : purgesView(page))],
  clients: ["Clients", clientsView],
  audit: ["Audit", auditView],
  logs: ["Logs", logsView],
  runbook: ["Runbook", runbookView],
};

let shell = null;

function showPage() {
  if (!read("session")) return;
  const { page, parts } = route();
  const known = Object.hasOwn(PAGES, page) ? page : "";
  const [title, view] = PAGES[known];
  const signal = leavePage();
  shell ??= new Shell(app, signOutDone);
  const main = shell.enter(known, title);
  view({ main, parts, signal, title });
}

function showSignIn(message) {
  leavePage();
  closeDialogs();
  stopEvents();
  clear();
  shell?.end.abort();
  shell = null;
  document.title = "Sign in · Portcullis";
  signIn(app, message, signedIn);
}

function signedIn(session) {
  set("session", session);
  startEvents();
  showPage();
}

function signOutDone() {
  forget();
  location.hash = "#/";
  showSignIn(null);
}

async function begin() {
  whenSignedOut(() => {
    if (!read("session")) return;
    forget();
    showSignIn("Your session has ended. Sign in again to go on where you were.");
  });
  document.getElementById("skip").addEventListener("click", (event) => {
    // The fragment is the page's address, so the browser's own jump would lead away.
    event.preventDefault();
    document.getElementById("main")?.focus();
  });
  setInterval(tickTimes, 1000);
  follow(showPage);
  if (!remembered()) return showSignIn(null);
  try {
    signedIn(await get("/session", { background: true }));
  } catch (error) {
    if (error.status === 401) forget();
    showSignIn(error.status === 401 ? "Your session has ended. Sign in again." : error.detail);
  }
}

begin();
