// What a reviewer does to the sequence before him, short of a verdict: rules, the photo at fault, the order, swaps.

import { changed, desk, isRule, item, opinion, redraw, ruleName, scopeOf } from "./desk.js";
import { $, say, tell, words } from "./page.js";
import { photo } from "./photos.js";

export function toggle(rule) {
  const draft = item().draft;
  draft.auto = false;
  draft.rules = draft.rules.includes(rule) ? draft.rules.filter((id) => id !== rule) : [...draft.rules, rule];
  tell(ruleName(rule) + (draft.rules.includes(rule) ? "" : " ×"));
  redraw();
}

// Takes over what the model suspects most: its rule, and its photo where the rule is about one.
export function agree() {
  const it = item(), first = opinion(it)?.suspects[0];
  if (!first) return;
  it.draft.rules = [first.rule, ...it.draft.rules.filter((id) => id !== first.rule)];
  const about_photo = scopeOf(first.rule) !== "multi" && it.sequence.includes(first.photo);
  if (it.draft.photo === null && about_photo) it.draft.photo = first.photo;
  tell(first.name);
  redraw();
}

export function blame(n) {
  const it = item(), draft = it.draft;
  if (!it.sequence.includes(n)) {
    tell(words.not_blamed);
    return;
  }
  draft.photo = draft.photo === n ? null : n;
  draft.box = null;
  tell(draft.photo === null ? words.unblamed : words.blamed);
  redraw();
}

// A click on a photo.
export function choose(n) {
  const it = item(), inside = it.draft.sequence.includes(n);
  if (desk.swapping !== null && inside) put(desk.swapping, it.draft.sequence.indexOf(n));
  else if (inside && it.sequence.includes(n)) blame(n);
  else swap(n);
}

export function move(n, step, to = null) {
  const draft = item().draft, from = draft.sequence.indexOf(n), place = to ?? from + step;
  if (from < 0 || place < 0 || place >= draft.sequence.length) return;
  draft.sequence.splice(place, 0, ...draft.sequence.splice(from, 1));
  reordered(n);
  tell(say("moved", { n: place + 1 }));
}

export function takeOut(n) {
  const draft = item().draft;
  if (!draft.sequence.includes(n)) return;
  draft.sequence = draft.sequence.filter((other) => other !== n);
  reordered(n);
  tell(words.taken_out);
}

// Takes a photo up to be swapped in, or lays it down again.
export function swap(n) {
  if (item().draft.sequence.includes(n)) return;
  desk.swapping = desk.swapping === n ? null : n;
  redraw();
  tell(desk.swapping === null ? "" : say("swap_where", { n: Math.min(9, $("sequence").childElementCount) }));
}

export function put(n, place) {
  const draft = item().draft;
  desk.swapping = null;
  if (place >= 0 && place <= draft.sequence.length) draft.sequence.splice(place, 1, n);
  reordered(n);
  tell(say("swapped", { n: place + 1 }));
}

// An order that differs in nothing but the order says that the order was wrong, until the reviewer says otherwise.
function reordered(n) {
  const it = item(), draft = it.draft;
  const only = changed(it) && [...it.sequence].sort().join() === [...draft.sequence].sort().join();
  const silent = !draft.rules.length && isRule("wrong_order");
  if (only && silent) Object.assign(draft, { rules: ["wrong_order"], auto: true });
  else if (!only && draft.auto) Object.assign(draft, { rules: [], auto: false });
  redraw();
  photo(n)?.focus({ preventScroll: true });
}

export function restore() {
  const draft = item().draft;
  draft.sequence = [...item().sequence];
  if (draft.auto) Object.assign(draft, { rules: [], auto: false });
  desk.swapping = null;
  redraw();
}

// What stands in the text field until the reviewer touches it: the model's words, unless he names another rule.
export function modelWords(it) {
  const told = opinion(it), rules = it.draft.rules;
  if (!told?.feedback) return "";
  return !rules.length || !told.suspects.length || rules.includes(told.suspects[0].rule) ? told.feedback : "";
}
