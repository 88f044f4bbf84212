// The list of all rules, found by a few letters.

import { toggle } from "./draft.js";
import { $, boot, make, words } from "./page.js";

let active = -1;

// Rules that the letters fit: those that begin with them, those with a word that does, those that have them anywhere.
function found() {
  const text = $("find").value.trim().toLowerCase();
  const rank = (rule) => {
    const name = rule.name.toLowerCase();
    if (name.startsWith(text)) return 0;
    if (name.split(/\W+/).some((part) => part.startsWith(text))) return 1;
    return name.includes(text) || rule.id.includes(text) ? 2 : 3;
  };
  return boot.rules.map((rule) => [rank(rule), rule]).filter(([nth]) => nth < 3).sort((a, b) => a[0] - b[0])
    .map(([, rule]) => rule);
}

function list(open) {
  const field = $("find"), rules = open ? found() : [];
  active = Math.min(Math.max(active, 0), rules.length - 1);
  const none = open && !rules.length ? [make("li", { class: "muted" }, words.no_rule)] : [];
  $("found").replaceChildren(...rules.map((rule, i) => make("li", {
    role: "option", id: `rule-${i}`, "aria-selected": String(i === active), title: rule.about,
    onpointerdown: (event) => { event.preventDefault(); pick(rule); },
  }, rule.name, make("span", { class: "muted" }, words[`scope_${rule.scope}`]))), ...none);
  $("found").hidden = !open;
  field.setAttribute("aria-expanded", String(open));
  if (open && active >= 0) {
    field.setAttribute("aria-activedescendant", `rule-${active}`);
    $("found").children[active].scrollIntoView({ block: "nearest" });
  } else field.removeAttribute("aria-activedescendant");
}

function pick(rule) {
  $("find").value = "";
  list(false);
  $("find").blur();
  toggle(rule.id);
  $("title").focus({ preventScroll: true });
}

$("find").addEventListener("focus", () => { active = 0; list(true); });
$("find").addEventListener("blur", () => list(false));
$("find").addEventListener("input", () => { active = 0; list(true); });
$("find").addEventListener("keydown", (event) => {
  const rules = found(), step = { ArrowDown: 1, ArrowUp: rules.length - 1 }[event.key];
  if (step !== undefined) {
    active = (active + step) % Math.max(1, rules.length);
    list(true);
  } else if (event.key === "Enter" && rules[active]) pick(rules[active]);
  else if (event.key === "Escape") {
    $("find").value = "";
    $("title").focus({ preventScroll: true });
  } else return;
  event.preventDefault();
  event.stopPropagation();
});
