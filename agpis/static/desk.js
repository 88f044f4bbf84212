// The desk: the sequences that the reviewer has at hand, the first of them before him, and what he has done to each.

import { read, slots } from "./outbox.js";
import { boot } from "./page.js";

const PAUSE = 200; // ms in which nobody has seen the new sequence yet: a key held down was not meant for it

export const desk = {
  items: [], // at hand, with their drafts; the first is shown
  passing: [], // ids of what he left for later
  done: new Set(), // ids of what he has judged: not to be shown again
  past: [], // {it, key} of what he judged or left on this page, for undo
  left: null, // how many match the filter on the server
  today: boot.today, // verdicts he gave today
  ended: false, // the server had nothing more
  blind: boot.blind || localStorage.getItem("agpis blind") === "1", // the model's opinion is hidden
  swapping: null, // number of the photo that is being swapped in
  at: null, // number of the photo that has, or last had, the focus
};
// What waits to be sent was judged before this page was opened.
for (const entry of slots("out").map(read)) desk.done[entry.path === "/api/undo" ? "delete" : "add"](entry.decision);

export const item = () => desk.items[0];
export const opinion = (it) => (desk.blind ? null : it.opinion);
export const changed = (it) => it.sequence.join() !== it.draft.sequence.join();
export const others = (it) => it.photos.map((_, n) => n).filter((n) => !it.draft.sequence.includes(n));
export const newDraft = (it) => ({
  sequence: [...it.sequence], // numbers of photos
  rules: [], auto: false, // `auto`: the rule was chosen by the page, not by the reviewer
  photo: null, box: null, // the photo at fault, and [x, y, width, height] on it in its pixels
  words: "", touched: false, // `touched`: the words are the reviewer's, not the model's
  seen: false, // the model's opinion was on the page
  looked: 0, // ms
});

const names = new Map(boot.rules.map((rule) => [rule.id, rule.name]));
const scopes = new Map(boot.rules.map((rule) => [rule.id, rule.scope]));
export const isRule = (id) => names.has(id);
export const ruleName = (id) => names.get(id) || id.replaceAll("_", " ");
export const scopeOf = (id) => scopes.get(id);

// Drawing lies above this module: review.js says how.
let paint = () => {};
export const drawnBy = (draw) => { paint = draw; };
// `fresh`: another sequence is before the reviewer.
export const redraw = (fresh = false) => paint(fresh);

let since = null, shown = 0; // ms on the page's clock
// Adds to the sequence at hand the time it has been looked at since the last call; hidden pages are not looked at.
export function clock() {
  const now = performance.now(), it = item();
  if (it && since !== null) it.draft.looked += now - since;
  since = document.hidden ? null : now;
}
// A sequence has just been put before the reviewer.
export function begin() {
  shown = performance.now();
  since = document.hidden ? null : shown;
}
export const justShown = () => performance.now() - shown < PAUSE;
