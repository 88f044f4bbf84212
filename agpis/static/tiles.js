// Drawing of the photos: those of the sequence in their places, and the others below.

import { changed, desk, opinion, others } from "./desk.js";
import { blame, choose, move, put, swap, takeOut } from "./draft.js";
import { $, make, say, words } from "./page.js";
import { outline, photo, picture, shape } from "./photos.js";
import { view } from "./viewer.js";

export function drawTiles(it) {
  const focused = document.activeElement?.closest?.("#sequence, #others") ? document.activeElement.dataset.n : null;
  const spares = others(it);
  $("sequence").replaceChildren(...it.draft.sequence.map((n, place) => tile(it, n, place)), ...vacancy(it));
  $("sequence").classList.toggle("many", it.draft.sequence.length > 3);
  $("others").replaceChildren(...spares.map((n, place) => tile(it, n, place, spares.length)));
  $("no_others").hidden = spares.length > 0;
  if (focused !== null) photo(Number(focused))?.focus({ preventScroll: true });
}

// `place`: from 0, in the sequence, or among that many spares.
function tile(it, n, place, spares = 0) {
  const about = it.photos[n], inside = !spares, draft = it.draft;
  const fault = draft.photo === n;
  const label = inside ? say("place_label", { n: place + 1, of: draft.sequence.length })
    : say("other_label", { n: place + 1, of: spares });
  const suspects = (inside && opinion(it)?.suspects) || [];
  const doubts = suspects.filter((each) => each.photo === n).map((each) => say("doubt", { rule: each.name }));
  const notes = [...(!desk.blind && about.why ? [about.why] : []), ...doubts];
  const state = `${fault ? " blamed" : ""}${about.removed ? " removed" : ""}${desk.swapping === n ? " moving" : ""}`;
  return make("li", { class: `tile${state}`, "data-place": inside ? place : null },
    make("button", {
      type: "button", class: "photo", "data-n": n, "aria-pressed": it.sequence.includes(n) ? String(fault) : null,
      "aria-label": [label, about.name, ...notes, fault && words.at_fault].filter(Boolean).join(", "),
      tabindex: desk.at === n || (desk.at === null && inside && place === 0) ? "0" : "-1",
      onclick: () => choose(n), ondblclick: () => view(n), onfocus: () => { desk.at = n; },
    }, framed(it, n, inside),
    inside && make("span", { class: "badge" }, place ? String(place + 1) : words.place_primary),
    fault && make("span", { class: "fault" }, words.at_fault)),
    inside && desk.swapping !== null && here(place),
    make("div", { class: "tools" }, ...(inside ? insideTools(it, n, place, label) : spareTools(n, label))),
    make("div", { class: "caption" },
      make("span", { class: "file", dir: "auto", title: about.name }, about.name),
      ...notes.map((note) => make("span", { class: "note" }, note))));
}

function framed(it, n, inside) {
  const about = it.photos[n], draft = it.draft;
  const image = inside ? picture(it, n, "large") : it.small.get(n) || it.large.get(n) || picture(it, n, "small");
  const boxed = draft.photo === n && draft.box;
  const frame = make("span", { class: "frame" }, image, boxed && outline(draft.box, about.size));
  shape(frame, about, image);
  return frame;
}

function insideTools(it, n, place, label) {
  const last = it.draft.sequence.length - 1, fault = it.draft.photo === n;
  const blamable = it.sequence.includes(n); // one that was swapped in was not judged
  return [
    grip(n),
    blamable && tool(words.at_fault, words.at_fault, label, () => blame(n), { "aria-pressed": String(fault) }),
    blamable && tool(words.draw_box, words.draw_box, label, () => view(n, true)),
    tool("←", words.earlier, label, () => move(n, -1), { disabled: place === 0 }),
    tool("→", words.later, label, () => move(n, 1), { disabled: place === last }),
    tool("×", words.take_out, label, () => takeOut(n)),
    tool(words.zoom, words.zoom, label, () => view(n)),
  ];
}

const spareTools = (n, label) =>
  [grip(n), tool(words.swap, words.swap, label, () => swap(n)), tool(words.zoom, words.zoom, label, () => view(n))];

const grip = (n) => make("span", { class: "grip", "data-grip": n, title: words.drag, "aria-hidden": "true" }, "⠿");

function tool(text, what, label, act, attributes = {}) {
  return make("button", {
    type: "button", "aria-label": `${what}, ${label}`, title: what, tabindex: "-1", onclick: act, ...attributes,
  }, text);
}

const here = (place) =>
  make("button", { type: "button", class: "here", onclick: () => put(desk.swapping, place) }, words.place_here);

// A free place at the end, where one more photo can go.
function vacancy(it) {
  const length = it.draft.sequence.length;
  const wanted = desk.swapping !== null || !length || changed(it);
  if (!wanted || !others(it).length || length >= Math.max(it.sequence.length, 3)) return [];
  const mark = desk.swapping !== null ? here(length) : make("span", { "aria-hidden": "true" }, "+");
  return [make("li", { class: "tile vacant", "data-place": length }, mark)];
}
