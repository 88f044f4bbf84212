// Keys and buttons of the desk. The help dialog lists the keys (agpis/wording.py).

import { desk, item } from "./desk.js";
import { agree, blame, move, put, restore, swap, takeOut, toggle } from "./draft.js";
import { $, boot } from "./page.js";
import { hide } from "./supply.js";
import { judge, skip, undo } from "./verdicts.js";
import { view } from "./viewer.js";

const help = () => $("help").showModal();
const toQueue = () => location.assign("/queue" + location.search);

// Number of the photo that has the focus, or null; and of the photo that a key means that needs one.
function at() {
  const n = document.activeElement?.dataset?.n;
  return n === undefined ? null : Number(n);
}
const aim = () => at() ?? item().draft.photo ?? item().draft.sequence[0];

// Keys without Shift and the like; `n`: the photo that has the focus. What returns false leaves the key to the browser.
const PLAIN = {
  a: () => judge(true),
  r: () => judge(false),
  n: () => skip(),
  u: () => { undo(); },
  m: () => agree(),
  f: () => {
    $("feedback").focus();
    $("feedback").setSelectionRange($("feedback").value.length, $("feedback").value.length);
  },
  "/": () => $("find").focus(),
  i: (n) => n !== null && blame(n),
  b: () => view(item().sequence.includes(aim()) ? aim() : item().sequence[0], true),
  z: () => view(aim()),
  " ": (n, event) => (n !== null || !event.target.matches("button, a, input")) && view(aim()),
  s: (n) => n !== null && swap(n),
  Delete: (n) => n !== null && takeOut(n),
  Backspace: (n) => n !== null && takeOut(n),
  o: () => restore(),
  h: () => hide(!desk.blind),
  g: () => toQueue(),
  Escape: () => desk.swapping !== null && swap(desk.swapping),
};

// By arrow keys from photo to photo: along a row, or to the other row.
function walk(key) {
  const inside = [...$("sequence").querySelectorAll(".photo")], rest = [...$("others").querySelectorAll(".photo")];
  const now = document.activeElement, row = rest.includes(now) ? rest : inside, i = row.indexOf(now);
  const nearest = (photos) => photos[Math.min(Math.max(i, 0), photos.length - 1)];
  const next = key === "ArrowUp" ? nearest(inside) : key === "ArrowDown" ? nearest(rest)
    : i < 0 ? (inside[0] || rest[0]) : row[i + (key === "ArrowRight" ? 1 : -1)];
  next?.focus();
  next?.scrollIntoView({ block: "nearest" });
}

// A digit: the place to swap in, with Shift the photo at fault, else the rule of that number.
function number(digit, shift) {
  const { sequence } = item().draft;
  if (desk.swapping !== null) {
    if (digit <= $("sequence").childElementCount) put(desk.swapping, digit - 1);
  } else if (shift) {
    if (digit <= sequence.length) blame(sequence[digit - 1]);
  } else if (digit <= boot.rules.length) toggle(boot.rules[digit - 1].id);
}

document.addEventListener("keydown", (event) => {
  if (event.isComposing || $("help").open || $("viewer").open) return;
  const typing = event.target.matches("textarea, input:not([type=checkbox]), select");
  const command = event.ctrlKey || event.metaKey, low = event.key.toLowerCase();
  if (event.key === "Escape" && typing) {
    $("title").focus({ preventScroll: true });
    return;
  }
  if (command && event.key === "Enter" && item()) {
    event.preventDefault();
    if (!event.repeat) judge(false);
    return;
  }
  if (command && low === "z" && !typing) {
    event.preventDefault();
    undo();
    return;
  }
  if (typing || command) return;
  if (event.altKey || !item()) {
    if (event.key === "?") help();
    else if (!item() && (low === "u" || low === "g")) PLAIN[low]();
    return;
  }
  if (!$("single").checked && event.key.length === 1 && event.key !== " ") return;
  if (plain(event) !== false) event.preventDefault();
});

// A key on a sequence; returns false where it is left to the browser.
function plain(event) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key, n = at();
  const digit = /^(?:Digit|Numpad)([1-9])$/.exec(event.code)?.[1];
  if (key === "?") return help();
  if (digit) return number(Number(digit), event.shiftKey);
  if (key.startsWith("Arrow")) {
    if (!event.shiftKey || n === null) return walk(key);
    return /Left|Right/.test(key) ? move(n, key === "ArrowLeft" ? -1 : 1) : undefined;
  }
  if (event.repeat) return key === " ";
  return Object.hasOwn(PLAIN, key) && PLAIN[key](n, event);
}

const BUTTONS = { accept: () => judge(true), reject: () => judge(false), next: skip, undo, restore, keys: help };
for (const [id, act] of Object.entries(BUTTONS)) $(id).addEventListener("click", () => { act(); });

$("single").checked = localStorage.getItem("agpis keys") !== "0";
$("single").addEventListener("change", () => localStorage.setItem("agpis keys", $("single").checked ? "1" : "0"));
$("blind").checked = desk.blind;
$("blind").disabled = boot.blind;
$("blind").addEventListener("change", () => {
  hide($("blind").checked);
  $("blind").blur();
});
