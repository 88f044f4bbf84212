// Drawing of the panel beside the photos: the model's opinion, the rules, the words.

import { item, opinion, ruleName } from "./desk.js";
import { agree, modelWords, toggle } from "./draft.js";
import { $, boot, make, say, words } from "./page.js";

const percent = (p) => (p > 0 && p < 0.01 ? "<1 %" : p < 1 && p > 0.99 ? ">99 %" : Math.round(100 * p) + " %");

export function drawPanel(it) {
  drawOpinion(it);
  drawRules(it);
  drawWords(it);
}

function drawOpinion(it) {
  const told = opinion(it);
  if (!told) {
    $("opinion").replaceChildren(make("p", { class: "muted" }, words.hidden));
    return;
  }
  const parts = [];
  if (told.p !== null) {
    const meter = make("span", { class: "meter", "aria-hidden": "true" }, make("span"));
    meter.firstChild.style.width = 100 * told.p + "%";
    parts.push(make("p", { class: "chance" }, make("b", {}, percent(told.p)), " ", words.chance), meter);
  }
  parts.push(make("p", {}, ...(told.suspects.length ? suspicion(it, told.suspects)
    : [make("span", { class: "muted" }, words.suspects_nothing)])));
  $("opinion").replaceChildren(make("h2", {}, words.opinion), ...parts);
}

function suspicion(it, suspects) {
  const where = (n) => (it.draft.sequence.includes(n) ? ` (${words.photo} ${it.draft.sequence.indexOf(n) + 1})` : "");
  const named = suspects.flatMap(({ name, p, photo }, i) =>
    [i ? ", " : "", make("b", {}, name), p === null ? "" : ` ${percent(p)}`, where(photo)]);
  const use = make("button", { type: "button", class: "quiet", onclick: agree }, words.use + " ", make("kbd", {}, "M"));
  return [`${words.suspects}: `, ...named, " ", use];
}

function drawRules(it) {
  const suspects = new Map((opinion(it)?.suspects || []).map((suspect) => [suspect.rule, suspect.p]));
  if (!$("rules").childElementCount) addRules();
  for (const button of $("rules").querySelectorAll(".rule")) {
    const id = button.dataset.rule, p = suspects.get(id) ?? null;
    button.setAttribute("aria-pressed", String(it.draft.rules.includes(id)));
    button.lastChild.textContent = p === null ? "" : percent(p);
  }
  $("chosen").replaceChildren(...it.draft.rules.map((id) => make("button", {
    type: "button", class: "chip", "aria-label": say("remove_rule", { rule: ruleName(id) }), onclick: () => toggle(id),
  }, ruleName(id), " ×")));
}

// The first nine rules have a number, the same on every sequence.
function addRules() {
  const numbered = boot.rules.slice(0, 9);
  for (const scope of ["single", "pair", "multi"]) {
    const rules = numbered.filter((rule) => rule.scope === scope);
    if (!rules.length) continue;
    $("rules").append(make("h3", {}, words[`scope_${scope}`]), ...rules.map((rule) => make("button", {
      type: "button", class: "rule", "data-rule": rule.id, title: rule.about, onclick: () => toggle(rule.id),
    }, make("kbd", {}, String(numbered.indexOf(rule) + 1)), make("span", {}, rule.name),
    make("span", { class: "model" }))));
  }
}

function drawWords(it) {
  const field = $("feedback"), text = it.draft.touched ? it.draft.words : modelWords(it);
  if (field.value !== text) field.value = text;
  const foreign = !it.draft.touched && text !== "";
  field.classList.toggle("foreign", foreign);
  $("author").hidden = !foreign;
  const author = foreign && it.opinion.by === "rulebook" ? words.rulebooks_words : words.models_words;
  $("author").firstElementChild.textContent = foreign ? author : "";
}

$("feedback").addEventListener("input", () => {
  Object.assign(item().draft, { touched: true, words: $("feedback").value });
  drawWords(item());
});
$("clear_words").addEventListener("click", () => {
  Object.assign(item().draft, { touched: true, words: "" });
  drawWords(item());
  $("feedback").focus();
});
