// The script of every page: sends what waits in the outbox, and says what waits and what went wrong.

import { drop, flush, outbox, read, slots, trouble } from "./outbox.js";
import { $, boot, make, remember, say, words } from "./page.js";

remember("agpis_zone", Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC");

let notice = "";
// A line at the head of the page until the reviewer has understood it.
export function notify(text) {
  notice = text;
  notices();
}

function notices() {
  const waiting = slots("out").length, saved = $("saved"), place = $("notices");
  const all_saved = boot ? words.all_saved : "";
  saved.textContent = waiting > 1 ? say("some_wait", { n: waiting }) : waiting ? words.one_waits : all_saved;
  saved.classList.toggle("waits", waiting > 0);
  const dismiss = (act) => make("button", { type: "button", onclick: act }, words.dismiss);
  const lines = [];
  if (trouble === "unreachable") lines.push(make("p", {}, words.unreachable));
  if (trouble === "signed_out") {
    const back = `/login?next=${encodeURIComponent(location.pathname + location.search)}`;
    lines.push(make("p", {}, words.signed_out + " ", make("a", { href: back }, words.sign_in_again)));
  }
  for (const slot of slots("refused")) {
    const { title, what, why } = read(slot);
    lines.push(make("p", { class: "refused" }, make("b", {}, words.refused_title), " ",
      say("refused", { title, what, why }), " ", dismiss(() => { drop(slot); notices(); })));
  }
  if (notice) lines.push(make("p", {}, notice + " ", dismiss(() => notify(""))));
  if (place.textContent !== lines.map((line) => line.textContent).join("")) place.replaceChildren(...lines);
}

outbox.addEventListener("change", notices);
notices();
flush();
