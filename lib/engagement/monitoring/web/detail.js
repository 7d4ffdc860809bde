// One content up close: its totals in the window and its newest events, read again while the dialog is open.
import { byId, element, write } from "./dom.js";
import { count, say, span, when } from "./text.js";

const PERIOD_MS = 2000;
const EVENTS = 30;
let content = null;

async function read(address) {
  const answer = await fetch(address, { cache: "no-store", signal: AbortSignal.timeout(4000) });
  if (answer.status === 404) return null; // no event in the window; anything else says nothing of the content
  if (!answer.ok) throw new Error(`${answer.status}`);
  return answer.json();
}

function showStats(stats) {
  byId("detail-none").hidden = stats !== null;
  const figures = stats === null ? [] : [
    ["score", count(stats.score, 1)], ["events", count(stats.events)], ["users", count(stats.unique_users)],
    ["seconds", span(stats.engagement_seconds)],
    ["average", stats.avg_engagement_pct === null ? "–" : `${count(stats.avg_engagement_pct, 1)} %`],
    ["play", count(stats.play)], ["pause", count(stats.pause)], ["finish", count(stats.finish)],
    ["click", count(stats.click)],
  ];
  byId("detail-stats").replaceChildren(...figures.map(([key, value]) => {
    const pair = element("div");
    pair.append(element("dt", "", say(key)), element("dd", "", value));
    return pair;
  }));
}

function eventRow(event) {
  const row = element("tr");
  const share = event.engagement_pct === null ? "–" : `${count(event.engagement_pct, 0)} %`;
  row.append(
    element("td", "", event.event_ts === null ? "–" : when(event.event_ts)),
    element("td", "", event.op === "d" ? `− ${say(event.event_type)}` : say(event.event_type)),
    element("td", "number", share), element("td"),
  );
  row.lastChild.append(element("bdi", "", event.device ?? "–"));
  return row;
}

function showEvents(events) {
  const items = events?.items ?? [];
  byId("detail-events").replaceChildren(...items.map(eventRow));
}

async function refresh() {
  const asked = content;
  if (asked === null) return;
  try {
    const [stats, events] = await Promise.all([
      read(`/content/${asked}/stats`), read(`/content/${asked}/events?count=${EVENTS}`),
    ]);
    if (asked !== content) return;
    showStats(stats);
    showEvents(events);
  } catch { /* the last figures stay; the page's own notice says what is away */ }
  setTimeout(() => { if (asked === content) refresh(); }, PERIOD_MS);
}

export function openDetail(id, title) {
  content = id;
  write(byId("detail-title"), title);
  write(byId("detail-id"), id);
  showStats(null);
  byId("detail-none").hidden = true;
  showEvents(null);
  byId("detail").showModal();
  refresh();
}

byId("close").addEventListener("click", () => byId("detail").close());
byId("detail").addEventListener("click", (event) => { if (event.target === byId("detail")) byId("detail").close(); });
byId("detail").addEventListener("close", () => { content = null; });
