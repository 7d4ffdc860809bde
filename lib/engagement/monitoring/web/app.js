// The live page: takes what /live sends once a second and shows it; tries again for as long as it is open.
import { addClass, byId, write } from "./dom.js";
import { openDetail } from "./detail.js";
import { showDeadLetters, showHealth, showSinks, showThroughput } from "./panels.js";
import { forgetMovement, showRanking } from "./ranking.js";
import { clock, current, say, setLanguage } from "./text.js";

const SILENT_MS = 5000;
const AGAIN_MS = 1500;
const settings = new URLSearchParams(location.search);
let source = null;
let heard = 0;
let newest = null;

function remembered(name, fallback) {
  if (settings.has(name)) return settings.get(name);
  try { return localStorage.getItem(name) ?? fallback; } catch { return fallback; }
}

function remember(name, value) {
  settings.delete(name);
  try { localStorage.setItem(name, value); } catch { /* private mode: the choice lasts as long as the page */ }
}

function notice(key) {
  byId("notice").hidden = key === null;
  write(byId("notice"), key === null ? "" : say(key));
  // What can no longer be asked is still shown, but not as if it were now.
  byId("rows").classList.toggle("stale", key === "noBoard");
  document.querySelector("main").classList.toggle("stale", key === "lost");
}

function show(live) {
  showHealth(live.health);
  showSinks(live.queries);
  showThroughput(live.queries.find((query) => query.sink === "redis"));
  showDeadLetters(live.queries);
  if (live.top) showRanking(live.top, openDetail);
  notice(live.top ? null : "noBoard");
  write(byId("updated"), clock(live.generated_at));
}

function connect() {
  source?.close();
  if (document.hidden) return; // a page nobody looks at asks nothing
  heard = Date.now();
  source = new EventSource(`/live?limit=${byId("limit").value}`);
  source.onmessage = (message) => {
    heard = Date.now();
    newest = JSON.parse(message.data);
    show(newest);
  };
}

function watch() {
  const silent = Date.now() - heard > SILENT_MS;
  if (!document.hidden && (silent || source?.readyState === EventSource.CLOSED)) {
    addClass(byId("overall"), "pill unknown");
    write(byId("overall-text"), say("unknown"));
    notice("lost");
    connect();
  }
}

function showLanguage() {
  const root = document.documentElement;
  root.lang = current();
  root.dir = current() === "ar" ? "rtl" : "ltr";
  for (const node of document.querySelectorAll("[data-i18n]")) write(node, say(node.dataset.i18n));
  for (const node of document.querySelectorAll("[data-i18n-label]")) {
    node.setAttribute("aria-label", say(node.dataset.i18nLabel));
  }
  const other = byId("language");
  other.lang = current() === "ar" ? "en" : "ar";
  other.textContent = current() === "ar" ? "English" : "العربية";
  if (newest) show(newest);
}

byId("language").addEventListener("click", () => {
  setLanguage(current() === "ar" ? "en" : "ar");
  remember("lang", current());
  showLanguage();
});
byId("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  remember("theme", root.dataset.theme);
});
byId("limit").addEventListener("change", () => {
  forgetMovement(); // a longer list has no news about its end
  connect();
});
document.addEventListener("visibilitychange", connect);

setLanguage(remembered("lang", "en"));
const theme = remembered("theme", "");
if (["light", "dark"].includes(theme)) document.documentElement.dataset.theme = theme;
showLanguage();
connect();
setInterval(watch, AGAIN_MS);
