// The script of the review page: draws the sequence before the reviewer whenever something about it has changed.
//
// Below it, from the bottom up; a script imports only from lines above its own and from its own line:
//   page.js                             elements and words
//   outbox.js, everywhere.js            sending, and what is said of it; every page has these
//   desk.js, photos.js, supply.js       what is at hand
//   draft.js, box.js, verdicts.js       what a reviewer does
//   viewer.js, tiles.js, panel.js       what he sees
//   keys.js, drag.js, find.js           his hands

import "./everywhere.js";
import { begin, changed, desk, drawnBy, item, opinion } from "./desk.js";
import { $, make, say, words } from "./page.js";
import { drawPanel } from "./panel.js";
import { counts, start } from "./supply.js";
import { drawTiles } from "./tiles.js";
import "./drag.js";
import "./find.js";
import "./keys.js";

drawnBy((fresh) => {
  const it = item();
  $("desk").hidden = !it;
  $("state").hidden = Boolean(it);
  counts();
  if (!it) {
    drawEmpty();
    return;
  }
  if (fresh) {
    desk.swapping = null;
    desk.at = null;
    drawHead(it);
  }
  if (opinion(it)) it.draft.seen = true;
  drawTiles(it);
  $("corrected").hidden = !changed(it);
  $("accept").firstElementChild.textContent = changed(it) ? words.accept_corrected : words.accept;
  drawPanel(it);
  if (!fresh) return;
  scrollTo(0, 0);
  $("title").focus({ preventScroll: true }); // a screen reader goes on with it
  begin();
});

function drawEmpty() {
  const hint = make("span", { class: "muted" }, words.all_done_hint);
  const back = make("a", { href: "/queue" }, words.to_queue);
  const done = [words.all_done, make("br"), hint, make("br"), back];
  $("state").replaceChildren(...(desk.ended ? done : [words.loading]));
  document.title = words.review;
}

function drawHead(it) {
  document.title = `${it.title} · ${words.product}`;
  $("title").textContent = it.title;
  const before = it.seen === 1 ? words.seen_before_one : say("seen_before", { n: it.seen });
  const about = [
    it.status && make("b", {}, it.status), make("bdi", {}, it.sku), it.category && make("bdi", {}, it.category),
    make("a", { href: `/history?sku=${encodeURIComponent(it.sku)}` }, it.seen ? before : words.history),
  ].filter(Boolean);
  $("about").replaceChildren(...about.flatMap((part, i) => (i ? [" · ", part] : [part])));
}

start();
