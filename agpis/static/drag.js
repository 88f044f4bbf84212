// Dragging: the mouse takes a photo anywhere, a finger takes its grip (elsewhere it scrolls).

import { item } from "./desk.js";
import { move, put, takeOut } from "./draft.js";
import { make } from "./page.js";
import { source } from "./photos.js";

const FAR = 7; // CSS pixels; less is a click
let drag = null; // {n, x, y, id of the pointer, ghost under it, tile it is over}
let dragged = false; // the click that follows is the end of a drag

document.addEventListener("pointerdown", (event) => {
  dragged = false;
  const grip = event.target.closest("[data-grip]");
  const mouse = event.pointerType === "mouse" && event.button === 0;
  const held = grip || (mouse && event.target.closest(".photo"));
  if (!held) return;
  if (grip) event.preventDefault();
  const n = Number(grip ? grip.dataset.grip : held.dataset.n);
  drag = { n, x: event.clientX, y: event.clientY, id: event.pointerId, ghost: null, over: null };
});

document.addEventListener("pointermove", (event) => {
  if (!drag || event.pointerId !== drag.id) return;
  const { clientX: x, clientY: y } = event;
  if (!drag.ghost) {
    if (Math.hypot(x - drag.x, y - drag.y) < FAR) return;
    const image = make("img", { src: source(item(), drag.n, "small"), alt: "" });
    drag.ghost = make("div", { class: "ghost", "aria-hidden": "true" }, image);
    document.body.append(drag.ghost);
    document.body.classList.add("dragging");
  }
  drag.ghost.style.transform = `translate(${x}px, ${y}px)`;
  const under = document.elementFromPoint(x, y), inside = item().draft.sequence.includes(drag.n);
  const over = under?.closest("#sequence .tile") || (inside ? under?.closest("#others") : null);
  if (over === drag.over) return;
  drag.over?.classList.remove("over");
  over?.classList.add("over");
  drag.over = over;
});

function release(event, kept) {
  if (!drag || event.pointerId !== drag.id) return;
  const { n, ghost, over } = drag;
  drag = null;
  if (!ghost) return;
  ghost.remove();
  document.body.classList.remove("dragging");
  over?.classList.remove("over");
  dragged = true;
  setTimeout(() => { dragged = false; }, 0);
  if (!kept || !over || !item()) return;
  const place = Number(over.dataset.place), sequence = item().draft.sequence;
  if (over.id === "others") takeOut(n);
  else if (!sequence.includes(n)) put(n, place);
  else move(n, 0, Math.min(place, sequence.length - 1));
}
document.addEventListener("pointerup", (event) => release(event, true));
document.addEventListener("pointercancel", (event) => release(event, false));
document.addEventListener("click", (event) => { if (dragged) event.stopPropagation(); }, { capture: true });
