// Everything beside the ranking: freshness of the sinks, throughput, health, rejected messages.
import { addClass, byId, element, write } from "./dom.js";
import { clock, count, say, span } from "./text.js";

const SEVERITY = { unhealthy: 0, unknown: 1, degraded: 2, healthy: 3 };
const POINTS = 120;
const rates = [];
const cards = new Map(); // sink -> card

function newCard() {
  const card = element("article", "sink");
  const meter = element("div", "meter");
  meter.setAttribute("aria-hidden", "true");
  meter.append(element("div", "fill"));
  const head = element("h3");
  head.append(element("span", "dot"), element("span"));
  head.children[0].setAttribute("aria-hidden", "true");
  card.append(head, element("p", "figure"), element("p", "soft what"), meter, element("p", "soft more"));
  return card;
}

function fillCard(card, query) {
  const [head, figure, what, meter, more] = card.children;
  const late = query.p99_seconds !== null && query.promise_seconds && query.p99_seconds > query.promise_seconds;
  const status = late && query.status === "healthy" ? "degraded" : query.status;
  addClass(card, `sink ${status}`);
  addClass(head.children[0], `dot ${status}`);
  write(head.children[1], say(`sink_${query.sink}`));
  write(figure, span(query.p99_seconds));
  const promise = query.promise_seconds ? ` · ${say("promise")} ${span(query.promise_seconds)}` : "";
  write(what, query.p99_seconds === null ? say("noFigure") + promise : say("p99") + promise);
  const share = query.promise_seconds ? Math.min(1, (query.p99_seconds ?? 0) / query.promise_seconds) : 0;
  meter.firstChild.style.inlineSize = `${100 * share}%`;
  const waits = query.lag_seconds ? ` · ${say("oldest")} ${span(query.lag_seconds)}` : "";
  write(more, query.lag_rows === null ? say("silent") : `${say("median")} ${span(query.p50_seconds)}${waits}`);
}

export function showSinks(queries) {
  const place = byId("sinks");
  for (const [sink, card] of cards) {
    if (!queries.some((query) => query.sink === sink)) { card.remove(); cards.delete(sink); }
  }
  queries.forEach((query, index) => {
    const card = cards.get(query.sink) ?? newCard();
    cards.set(query.sink, card);
    fillCard(card, query);
    if (place.children[index] !== card) place.insertBefore(card, place.children[index] ?? null);
  });
}

export function showThroughput(query) {
  const rate = query?.input_rows_per_second ?? null;
  write(byId("rate"), rate === null ? "–" : count(rate));
  write(byId("lag"), query && query.lag_rows !== null ? count(query.lag_rows) : "–");
  write(byId("delivered"), query ? count(query.delivered) : "–");
  rates.push(rate ?? 0);
  if (rates.length > POINTS) rates.shift();
  const most = Math.max(1, ...rates) * 1.15;
  const start = POINTS - rates.length;
  const points = rates.map((value, index) => `${start + index} ${(36 - (34 * value) / most).toFixed(2)}`);
  const [area, line] = byId("spark").children;
  line.setAttribute("d", `M${points.join("L")}`);
  area.setAttribute("d", `M${start} 36L${points.join("L")}L${start + rates.length - 1} 36Z`);
}

function componentName(name) {
  if (!name.startsWith("query:")) return say(name);
  return `${say("query")}: ${say(`sink_${name.slice("query:".length)}`)}`;
}

function componentItem(name, part) {
  const item = element("li");
  item.dataset.component = name;
  const dot = element("span", `dot ${part.status}`);
  dot.setAttribute("aria-hidden", "true");
  const label = element("span", "", componentName(name));
  label.append(element("span", "hidden", `: ${say(part.status)}`));
  if (part.embedded) label.append(element("span", "tag", say("embedded")));
  const quick = part.latency_ms === null || name.startsWith("query:") || name === "reader";
  item.append(dot, label, element("span", "latency", quick ? "" : span(part.latency_ms / 1000)));
  if (part.status !== "healthy") {
    const reason = element("bdi", `reason ${part.status}`, part.reason || say(part.status));
    reason.lang = "en";
    item.append(reason, element("span", "since", `${say("since")} ${clock(part.since)}`));
  }
  return item;
}

let shown = "";

export function showHealth(health) {
  addClass(byId("overall"), `pill ${health.status}`);
  write(byId("overall-text"), say(health.status));
  const parts = Object.entries(health.components)
    .map(([name, part], index) => ({ name, part, index }))
    .sort((a, b) => SEVERITY[a.part.status] - SEVERITY[b.part.status] || a.index - b.index);
  const items = parts.map(({ name, part }) => componentItem(name, part));
  const news = items.map((item) => item.outerHTML).join("");
  if (news === shown) return;
  shown = news;
  byId("components").replaceChildren(...items);
}

export function showDeadLetters(queries) {
  // Each sink meets the same messages, so the largest count is the number of messages, not their sum.
  const most = new Map();
  for (const query of queries) {
    for (const [code, rows] of Object.entries(query.dead_letters)) most.set(code, Math.max(rows, most.get(code) ?? 0));
  }
  const entries = [...most].sort((a, b) => b[1] - a[1]);
  byId("dead").replaceChildren(
    ...entries.flatMap(([code, rows]) => [element("dt", "", code), element("dd", "", count(rows))]),
  );
  byId("no-dead").hidden = entries.length > 0;
}
