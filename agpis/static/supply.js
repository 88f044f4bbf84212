// The supply of sequences: leased ahead, lengthened while somebody sits here, and how many are left.

import { clock, desk, item, redraw } from "./desk.js";
import { notify } from "./everywhere.js";
import { call, failed, flush, read, recovered, slots, trouble } from "./outbox.js";
import { $, boot, remember, say, words } from "./page.js";
import { prepare } from "./photos.js";

const AHEAD = 5; // sequences at hand, their pictures loaded
const AWAY = 900000; // ms without a key or a touch after which leases are not lengthened any more
let filling = false, lastInput = Date.now();
for (const kind of ["keydown", "pointerdown"])
  document.addEventListener(kind, () => { lastInput = Date.now(); }, { capture: true });

// Leases until AHEAD are at hand; `first`: the id of the decision that is to come first.
export async function fill(first = null) {
  if (filling) return;
  const veiled = !desk.blind && desk.items.some((it) => !it.opinion);
  if (desk.items.length >= AHEAD && !veiled) return;
  filling = true;
  const sent = slots("out").length;
  const answer = await call("/api/lease", {
    count: Math.min(20, AHEAD + sent), first, passing: desk.passing.slice(-500), blind: desk.blind,
    filter: location.search,
  });
  filling = false;
  if (answer.status !== 200) {
    failed(answer.status);
    if (answer.status !== 401) setTimeout(() => fill(first), 2000);
    return;
  }
  if (trouble && !slots("out").length) recovered();
  const before = desk.items.length, empty = !before;
  const unveiled = answer.data.items.map(take).some(Boolean);
  if (answer.data.taken) notify(`${words.taken_title}. ${words.taken}`);
  desk.left = answer.data.left;
  desk.ended = !desk.items.length;
  if (empty || unveiled) redraw(empty);
  else counts();
  if (desk.ended) setTimeout(() => fill(), sent ? 1500 : 15000);
  else if (answer.data.items.length && desk.items.length < AHEAD && desk.items.length > before) fill();
}

// Puts a leased sequence with those at hand; returns whether it is one of them whose opinion has now come.
function take(found) {
  const held = desk.items.find((it) => it.id === found.id);
  if (!held && !desk.done.has(found.id)) desk.items.push(prepare(found));
  if (!held || held.opinion || !found.opinion) return false;
  Object.assign(held, { opinion: found.opinion, photos: found.photos });
  return true;
}

export function counts() {
  const waiting = slots("out").filter((slot) => read(slot).path === "/api/verdict").length;
  const left = Math.max(desk.items.length, desk.left - waiting);
  $("left").textContent = desk.left === null ? "" : say("left", { n: left.toLocaleString("en") });
  $("today").textContent = say("today", { n: desk.today });
}

// Hide the model's opinion or show it: what is leased from now on has none, or what is at hand gets it.
export function hide(wanted) {
  desk.blind = boot.blind || wanted;
  localStorage.setItem("agpis blind", desk.blind ? "1" : "0");
  remember("agpis_blind", desk.blind ? "1" : "0");
  $("blind").checked = desk.blind;
  if (item()) redraw();
  fill();
}

// Leases are lengthened; what went to others meanwhile is said and taken away.
async function renew() {
  if (document.hidden || !desk.items.length || Date.now() - lastInput > AWAY) return;
  const answer = await call("/api/renew", { ids: desk.items.map((it) => it.id) });
  if (answer.status === 401) failed(401);
  if (answer.status !== 200) return;
  if (trouble === "unreachable") flush();
  const held = new Set(answer.data.held), first = item();
  desk.items = desk.items.filter((it) => held.has(it.id) || !answer.data.asked.includes(it.id));
  if (first && item() !== first) {
    if ($("viewer").open) $("viewer").close();
    redraw(true);
    notify(say("now_lost", { title: first.title }));
  }
  fill();
}

// The first ones, and from then on whatever is missing.
export function start() {
  setInterval(renew, Math.min(60, boot.seconds / 3) * 1000);
  document.addEventListener("visibilitychange", () => {
    clock();
    if (document.hidden) return;
    flush();
    renew();
  });
  fill(boot.first);
}
