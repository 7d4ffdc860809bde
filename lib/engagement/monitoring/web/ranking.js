// The ranking: rows are kept per content, so that they can be seen to move and keep the focus.
import { addClass, byId, element, write } from "./dom.js";
import { count, say } from "./text.js";

const MOVE_SPAN_MS = 30000;
const GLIDE_MS = 450;
const still = matchMedia("(prefers-reduced-motion: reduce)");
const rows = new Map(); // content_id -> row
let past = []; // [{at, ranks: Map(content_id -> rank)}], oldest first

function movement(id, rank, before) {
  if (!before) return { kind: "", text: "", spoken: "" };
  const old = before.ranks.get(id);
  if (old === undefined) return { kind: "new", text: "✦", spoken: say("fresh") };
  const steps = old - rank;
  if (steps === 0) return { kind: "", text: "", spoken: "" };
  const kind = steps > 0 ? "up" : "down";
  return { kind, text: `${steps > 0 ? "▲" : "▼"}${count(Math.abs(steps))}`, spoken: `${say(kind)} ${Math.abs(steps)}` };
}

function newRow(id, open) {
  const row = element("tr");
  const rank = element("th", "rank");
  rank.scope = "row";
  const move = element("td", "move");
  const arrow = element("span");
  arrow.setAttribute("aria-hidden", "true");
  move.append(arrow, element("span", "hidden"));
  const name = element("td", "name");
  const button = element("button", "open");
  button.type = "button";
  button.append(element("bdi"));
  button.addEventListener("click", () => open(id, button.textContent));
  const track = element("div", "track");
  track.append(element("div", "fill"));
  name.append(button, element("span", "kind"), track);
  row.append(rank, move, name, element("td", "number"));
  return row;
}

function fill(row, item, best, before) {
  const [rank, move, name, score] = row.children;
  const change = movement(item.content_id, item.rank, before);
  write(rank, count(item.rank));
  addClass(move, `move ${change.kind}`);
  write(move.children[0], change.text);
  write(move.children[1], change.spoken);
  write(name.querySelector("bdi"), item.title ?? say("untitled"));
  write(name.querySelector(".kind"), item.content_type ? say(item.content_type) : item.content_id);
  name.querySelector(".fill").style.inlineSize = `${best > 0 ? Math.max(0, (100 * item.score) / best) : 0}%`;
  write(score, count(item.score, 1));
}

function glide(row, from) {
  const by = from - row.getBoundingClientRect().top;
  if (Math.abs(by) < 1) return;
  row.animate([{ transform: `translateY(${by}px)` }, { transform: "none" }], { duration: GLIDE_MS, easing: "ease-out" });
}

export function showRanking({ items, window_minutes: minutes }, open) {
  write(byId("window"), say("last")(minutes));
  const now = Date.now();
  const ranks = new Map(items.map((item) => [item.content_id, item.rank]));
  past = past.filter((entry) => now - entry.at <= MOVE_SPAN_MS);
  const before = past.find((entry) => entry.ranks.size > 0);
  past.push({ at: now, ranks });
  for (const [id, row] of rows) {
    if (!ranks.has(id)) { row.remove(); rows.delete(id); }
  }
  const tops = new Map([...rows].map(([id, row]) => [id, row.getBoundingClientRect().top]));
  const focused = document.activeElement;
  const body = byId("rows");
  items.forEach((item, index) => {
    const row = rows.get(item.content_id) ?? newRow(item.content_id, open);
    rows.set(item.content_id, row);
    fill(row, item, items[0].score, before);
    if (body.children[index] !== row) body.insertBefore(row, body.children[index] ?? null);
  });
  if (focused?.isConnected && focused !== document.activeElement) focused.focus({ preventScroll: true });
  if (!still.matches) for (const [id, top] of tops) glide(rows.get(id), top);
  byId("empty").hidden = items.length > 0;
}

export function forgetMovement() {
  past = [];
}
