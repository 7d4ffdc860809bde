// The live page: asks the API once a second and shows what it says. Text from content is only ever set as text.
"use strict";

const TOP = 20;
const PERIOD_MS = 1000;
const ANSWER_MS = 4000;
const MOVE_SPAN_MS = 30000;
const SINK = "redis";

const NAMES = {
  postgres: "PostgreSQL", kafka: "Kafka", connect: "Kafka Connect", redis: "Redis",
};
const TEXT = {
  en: {
    skip: "Skip to the ranking", title: "Engagement, live", settings: "Settings", figures: "Figures", theme: "Theme",
    rate: "Events per second", p50: "Freshness, median", p99: "Freshness, p99", lag: "Waiting in Kafka",
    delivered: "Delivered", ranking: "Top content", last: (minutes) => `last ${minutes} ${minutes === 1 ? "minute" : "minutes"}`, rank: "Rank", move: "Movement",
    content: "Content", score: "Score", empty: "No event in the window yet.", health: "Health",
    dead: "Dead letters by code", noDead: "None.", updated: "Updated", since: "since", embedded: "embedded",
    healthy: "Healthy", degraded: "Degraded", unhealthy: "Unhealthy", unknown: "Unknown", up: "up", down: "down",
    fresh: "new", untitled: "(unknown content)", podcast: "podcast", newsletter: "newsletter", video: "video",
    replication_slot: "Replication slot", query: "Query", ms: "ms", s: "s",
    lost: "The API does not answer. Trying again.", noBoard: "The ranking cannot be read. Trying again.",
  },
  ar: {
    skip: "انتقل إلى الترتيب", title: "التفاعل مباشرةً", settings: "الإعدادات", figures: "الأرقام", theme: "المظهر",
    rate: "أحداث في الثانية", p50: "حداثة البيانات، الوسيط", p99: "حداثة البيانات، p99", lag: "بانتظار المعالجة في Kafka",
    delivered: "تم تسليمها", ranking: "الأعلى تفاعلًا", last: (minutes) => `آخر ${minutes} ${minutes >= 3 && minutes <= 10 ? "دقائق" : "دقيقة"}`, rank: "الترتيب", move: "التغيّر",
    content: "المحتوى", score: "النقاط", empty: "لا أحداث في النافذة بعد.", health: "حالة النظام",
    dead: "الرسائل المرفوضة حسب الرمز", noDead: "لا شيء.", updated: "آخر تحديث", since: "منذ", embedded: "مدمج",
    healthy: "سليم", degraded: "متراجع", unhealthy: "معطّل", unknown: "غير معروف", up: "صعود", down: "هبوط",
    fresh: "جديد", untitled: "(محتوى غير معروف)", podcast: "بودكاست", newsletter: "نشرة بريدية", video: "فيديو",
    replication_slot: "منفذ النسخ", query: "استعلام", ms: "م.ث", s: "ث",
    lost: "لا تستجيب الواجهة. نعيد المحاولة.", noBoard: "تعذّرت قراءة الترتيب. نعيد المحاولة.",
  },
};

const byId = (id) => document.getElementById(id);
const settings = new URLSearchParams(location.search);
let language = "en";
let history = []; // [{at, ranks: Map(content_id -> rank)}], oldest first

const say = (key) => TEXT[language][key] ?? key;
const count = (value, digits = 0) =>
  new Intl.NumberFormat(language === "ar" ? "ar-u-nu-latn" : "en", {
    minimumFractionDigits: digits, maximumFractionDigits: digits,
  }).format(value);
const clock = (moment) => new Date(moment).toLocaleTimeString(language === "ar" ? "ar-u-nu-latn" : "en-GB");
const span = (seconds) => {
  if (seconds === null || seconds === undefined) return "–";
  return seconds < 1 ? `${count(seconds * 1000)} ${say("ms")}` : `${count(seconds, seconds < 10 ? 2 : 0)} ${say("s")}`;
};

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

// Changing only what differs keeps a selection, and a screen reader's place, where they are.
function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function remembered(name, fallback) {
  if (settings.has(name)) return settings.get(name);
  try { return localStorage.getItem(name) ?? fallback; } catch { return fallback; }
}

function remember(name, value) {
  settings.delete(name);
  try { localStorage.setItem(name, value); } catch { /* private mode: the choice lasts as long as the page */ }
}

function showLanguage() {
  const root = document.documentElement;
  root.lang = language;
  root.dir = language === "ar" ? "rtl" : "ltr";
  for (const node of document.querySelectorAll("[data-i18n]")) write(node, say(node.dataset.i18n));
  for (const node of document.querySelectorAll("[data-i18n-label]")) {
    node.setAttribute("aria-label", say(node.dataset.i18nLabel));
  }
  const other = byId("language");
  other.lang = language === "ar" ? "en" : "ar";
  other.textContent = language === "ar" ? "English" : "العربية";
}

function movement(id, rank, before) {
  if (!before) return { kind: "", text: "", spoken: "" };
  const old = before.ranks.get(id);
  if (old === undefined) return { kind: "new", text: "✦", spoken: say("fresh") };
  const steps = old - rank;
  if (steps === 0) return { kind: "", text: "", spoken: "" };
  const kind = steps > 0 ? "up" : "down";
  return { kind, text: `${steps > 0 ? "▲" : "▼"} ${count(Math.abs(steps))}`, spoken: `${say(kind)} ${Math.abs(steps)}` };
}

function newRow() {
  const row = element("tr");
  const rank = element("th", "rank");
  rank.scope = "row";
  const move = element("td", "move");
  const arrow = element("span");
  arrow.setAttribute("aria-hidden", "true");
  move.append(arrow, element("span", "hidden"));
  const name = element("td", "name");
  const track = element("div", "track");
  track.append(element("div", "fill"));
  name.append(element("bdi"), element("div", "kind"), track);
  row.append(rank, move, name, element("td", "number"));
  return row;
}

function fillRow(row, item, best, before) {
  const [rank, move, name, score] = row.children;
  const change = movement(item.content_id, item.rank, before);
  write(rank, count(item.rank));
  move.className = `move ${change.kind}`;
  write(move.children[0], change.text);
  write(move.children[1], change.spoken);
  write(name.children[0], item.title ?? say("untitled"));
  write(name.children[1], item.content_type ? say(item.content_type) : item.content_id);
  name.querySelector(".fill").style.width = `${best > 0 ? Math.max(0, (100 * item.score) / best) : 0}%`;
  write(score, count(item.score, 1));
}

function showRanking({ items, window_minutes: minutes }) {
  write(byId("window"), say("last")(minutes));
  const now = Date.now();
  const ranks = new Map(items.map((item) => [item.content_id, item.rank]));
  history = history.filter((entry) => now - entry.at <= MOVE_SPAN_MS);
  const before = history.find((entry) => entry.ranks.size > 0);
  history.push({ at: now, ranks });
  const body = byId("rows");
  while (body.children.length > items.length) body.lastElementChild.remove();
  while (body.children.length < items.length) body.append(newRow());
  items.forEach((item, index) => fillRow(body.children[index], item, items[0].score, before));
  byId("empty").hidden = items.length > 0;
}

function componentName(name) {
  if (name.startsWith("query:")) return `${say("query")}: ${name.slice("query:".length)}`;
  return NAMES[name] ?? say(name);
}

function componentItem(name, part) {
  const item = element("li");
  const dot = element("span", `dot ${part.status}`);
  dot.setAttribute("aria-hidden", "true");
  const label = element("span", "", componentName(name));
  label.append(element("span", "hidden", `: ${say(part.status)}`));
  if (part.embedded) label.append(element("span", "tag", say("embedded")));
  const latency = element("span", "latency", part.latency_ms === null ? "" : `${count(part.latency_ms)} ${say("ms")}`);
  item.append(dot, label, latency);
  if (part.status !== "healthy") {
    const reason = element("bdi", `reason ${part.status}`, part.reason || say(part.status));
    reason.lang = "en";
    item.append(reason, element("span", "since", `${say("since")} ${clock(part.since)}`));
  }
  return item;
}

function showHealth(health) {
  byId("overall").className = `pill ${health.status}`;
  write(byId("overall-text"), say(health.status));
  byId("components").replaceChildren(
    ...Object.entries(health.components).map(([name, part]) => componentItem(name, part)),
  );
}

function showFigures(metrics, health) {
  const query = metrics.queries[SINK];
  // Figures of a query that has fallen silent would be claims about the past: a dash is true.
  const alive = query && !["unhealthy", "unknown"].includes(health.components[`query:${SINK}`]?.status);
  const recent = query?.freshness.recent;
  write(byId("rate"), alive ? count(query.input_rows_per_second) : "–");
  write(byId("p50"), alive ? span(recent.p50_seconds) : "–");
  write(byId("p99"), alive ? span(recent.p99_seconds) : "–");
  write(byId("lag"), alive ? count(Object.values(query.lag_rows).reduce((sum, rows) => sum + rows, 0)) : "–");
  write(byId("delivered"), query ? count(query.rows.delivered) : "–");
  showDeadLetters(query?.rows.dead_letters ?? {});
}

function showDeadLetters(byCode) {
  const entries = Object.entries(byCode).sort((a, b) => b[1] - a[1]);
  byId("dead").replaceChildren(
    ...entries.flatMap(([code, rows]) => [element("dt", "", code), element("dd", "", count(rows))]),
  );
  byId("no-dead").hidden = entries.length > 0;
}

async function ask(address) {
  const answer = await fetch(address, { cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS) });
  // 503 of /health is an answer with content; 503 of the ranking has none.
  if (!answer.ok && !(address === "/health" && answer.status === 503)) throw new Error(String(answer.status));
  return answer.json();
}

function notice(key) {
  byId("notice").hidden = key === null;
  write(byId("notice"), key === null ? "" : say(key));
  // What can no longer be asked is still shown, but not as if it were now.
  byId("rows").classList.toggle("stale", key === "noBoard");
  document.querySelector("main").classList.toggle("stale", key === "lost");
}

async function refresh() {
  const [health, metrics, top] = await Promise.allSettled(
    [ask("/health"), ask("/metrics"), ask(`/top-content?limit=${TOP}`)],
  );
  if (health.status === "rejected" || metrics.status === "rejected") {
    byId("overall").className = "pill unknown";
    write(byId("overall-text"), say("unknown"));
    notice("lost");
    return;
  }
  showHealth(health.value);
  showFigures(metrics.value, health.value);
  if (top.status === "fulfilled") showRanking(top.value);
  notice(top.status === "fulfilled" ? null : "noBoard");
  write(byId("updated"), clock(health.value.checked_at));
}

async function live() {
  // A page nobody looks at asks nothing.
  if (!document.hidden) await refresh();
  setTimeout(live, PERIOD_MS);
}

byId("language").addEventListener("click", () => {
  language = language === "ar" ? "en" : "ar";
  remember("lang", language);
  showLanguage();
  refresh();
});
byId("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  remember("theme", root.dataset.theme);
});
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });

language = remembered("lang", "en") === "ar" ? "ar" : "en";
const theme = remembered("theme", "");
if (["light", "dark"].includes(theme)) document.documentElement.dataset.theme = theme;
showLanguage();
live();
