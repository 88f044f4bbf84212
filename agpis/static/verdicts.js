// Verdicts: accepted, rejected, left for later, undone. Each is in the outbox before the next sequence is shown.

import { changed, clock, desk, item, justShown, redraw, ruleName } from "./desk.js";
import { modelWords } from "./draft.js";
import { call, flush, keep, newKey, outbox, slots } from "./outbox.js";
import { say, tell, words } from "./page.js";
import { prepare } from "./photos.js";
import { fill } from "./supply.js";

export function judge(accepted) {
  const it = item();
  if (!it || justShown()) return;
  const draft = it.draft, corrected = changed(it) && draft.sequence.length ? draft.sequence : [];
  const own = draft.touched ? draft.words.trim() : "";
  const missing = objection(it, accepted, corrected, own);
  if (missing) {
    tell(missing);
    return;
  }
  clock();
  const key = newKey();
  const what = accepted ? (corrected.length ? words.corrected_short : words.accepted) : words.rejected;
  const sound = accepted && !corrected.length;
  keep("out", {
    id: key, path: "/api/verdict", decision: it.id, title: it.title,
    what: [what, ...draft.rules.map(ruleName)].join(", "),
    body: {
      key, decision: it.id, v: it.v, accepted: sound, rules: sound ? [] : draft.rules,
      photo: sound ? null : draft.photo, box: sound ? null : draft.box,
      feedback: sound ? "" : own || (accepted || draft.touched ? "" : modelWords(it)), corrected,
      seconds: Math.min(86400, Math.round(draft.looked / 100) / 10), blind: !draft.seen,
    },
  });
  desk.past.push({ it, key });
  desk.done.add(it.id);
  desk.today += 1;
  next(say("did", { what, title: it.title }));
  flush().then(() => fill());
}

// Why that cannot be a verdict; nothing where it can.
function objection(it, accepted, corrected, own) {
  if (!accepted) return it.draft.rules.length || own ? "" : words.say_why;
  if (corrected.length) return "";
  if (!it.sequence.length || changed(it)) return words.no_sequence_to_accept;
  return it.draft.rules.length || own ? words.contradiction : "";
}

function next(text) {
  desk.items.shift();
  redraw(true);
  tell(text);
  outbox.dispatchEvent(new Event("change"));
  fill();
}

export function skip() {
  const it = item();
  if (!it || justShown()) return;
  clock();
  desk.passing.push(it.id);
  desk.past.push({ it, key: null });
  next(say("did", { what: words.skipped, title: it.title }));
}

export async function undo() {
  clock();
  const last = desk.past.pop();
  if (!last) {
    await undoEarlier();
    return;
  }
  if (last.key) {
    keep("out", {
      id: newKey(), path: "/api/undo", decision: last.it.id, title: last.it.title, what: words.undo,
      body: { key: last.key, blind: desk.blind },
    });
    desk.done.delete(last.it.id);
    desk.today -= 1;
  } else desk.passing = desk.passing.filter((id) => id !== last.it.id);
  again(last.it);
  flush();
}

// A verdict given before this page was loaded.
async function undoEarlier() {
  await flush();
  const answer = slots("out").length ? { status: 0 } : await call("/api/undo", { key: null, blind: desk.blind });
  if (answer.status !== 200 || !answer.data.item) {
    tell(words.nothing_to_undo);
    return;
  }
  clock();
  desk.today = Math.max(0, desk.today - 1);
  again(prepare(answer.data.item));
}

// A sequence is before the reviewer once more.
function again(it) {
  desk.items = [it, ...desk.items.filter((other) => other.id !== it.id)];
  redraw(true);
  tell(say("undone", { title: it.title }));
}

outbox.addEventListener("sent", ({ detail: { entry, data } }) => {
  if (entry.path !== "/api/undo" || data.item) return;
  if (item()?.id === entry.decision) { // it was shown again, but is not his to judge any more
    desk.items.shift();
    redraw(true);
    fill();
  }
  tell(words.undo_failed);
});
