// The viewer: one photo large, zoomed and moved by keys, mouse and fingers, and the box drawn on it (box.js).

import { boxed, nudge, setBox, unbox } from "./box.js";
import { desk, item, others, redraw } from "./desk.js";
import { $, make, tell, words } from "./page.js";
import { outline, photo, source } from "./photos.js";

const dialog = $("viewer"), canvas = $("canvas"), sheet = $("sheet");
// Number of the photo; where its corner lies on the canvas, in CSS pixels, and how much larger than fitting it is;
// whether a box is being drawn; where the pointer went down, all fingers, and how far apart two of them were.
const eye = { n: 0, x: 0, y: 0, scale: 1, drawing: false, start: null, fingers: new Map(), spread: 0 };
const doing = (name) => dialog.querySelector(`[data-do="${name}"]`);
const canDraw = () => item().sequence.includes(eye.n);

export function view(n, drawing = false) {
  if (n === undefined || n === null) return;
  desk.at = n;
  eye.n = n;
  if (!dialog.open) dialog.showModal();
  const it = item(), about = it.photos[n];
  const image = make("img", { src: source(it, n, "zoom"), alt: about.name, draggable: "false" });
  const small = it.large.get(n) || it.small.get(n); // until the large one has come
  if (small?.complete && small.naturalWidth) sheet.style.backgroundImage = `url("${small.src}")`;
  const [w, h] = about.size || [small?.naturalWidth || 4, small?.naturalHeight || 3];
  const fit = Math.min((canvas.clientWidth - 24) / w, (canvas.clientHeight - 24) / h);
  sheet.style.width = `${w * fit}px`;
  sheet.style.height = `${h * fit}px`;
  sheet.replaceChildren(image);
  Object.assign(eye, { x: (canvas.clientWidth - w * fit) / 2, y: (canvas.clientHeight - h * fit) / 2, scale: 1 });
  const nth = it.draft.sequence.indexOf(n), size = about.size ? ` · ${about.size.join(" × ")}` : "";
  $("viewname").textContent = (nth < 0 ? "" : `${nth + 1} · `) + about.name + size;
  arm(drawing && canDraw());
  canvas.focus();
}

// Begin to draw a box, or leave it.
function arm(drawing) {
  const known = Boolean(item().photos[eye.n].size);
  eye.drawing = drawing && known;
  $("viewhint").textContent = drawing ? (known ? words.box_start : words.size_unknown)
    : canDraw() ? "" : words.not_blamed;
  doing("box").setAttribute("aria-pressed", String(eye.drawing));
  doing("box").disabled = !canDraw();
  canvas.classList.toggle("drawing", eye.drawing);
  place();
}

function place() {
  sheet.style.transform = `translate(${eye.x}px, ${eye.y}px) scale(${eye.scale})`;
  sheet.style.setProperty("--scale", eye.scale);
  for (const mark of sheet.querySelectorAll(".box, .found")) mark.remove();
  const about = item().photos[eye.n], box = boxed(eye.n);
  if (about.size) {
    for (const found of (!desk.blind && about.boxes) || []) sheet.append(outline(found, about.size, "found"));
    if (box) sheet.append(outline(box, about.size));
  }
  doing("remove").hidden = !box;
  doing("keep").hidden = !box;
}

function pan(dx, dy) {
  eye.x += dx;
  eye.y += dy;
  place();
}

// About a point of the canvas, its middle where none is given.
function zoomBy(factor, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
  const scale = Math.min(16, Math.max(1, eye.scale * factor)), by = scale / eye.scale;
  Object.assign(eye, { x: x - (x - eye.x) * by, y: y - (y - eye.y) * by, scale });
  place();
}

function turn(step) {
  const it = item(), all = [...it.draft.sequence, ...others(it)];
  view(all[(all.indexOf(eye.n) + step + all.length) % all.length]);
}

const close = () => dialog.close();
const acts = {
  previous: () => turn(-1), following: () => turn(1),
  smaller: () => zoomBy(1 / 1.5), larger: () => zoomBy(1.5), fit: () => view(eye.n, eye.drawing),
  box: () => arm(!eye.drawing), keep: close, close,
  remove: () => {
    unbox();
    $("viewhint").textContent = words.box_removed;
    place();
  },
};
for (const [name, act] of Object.entries(acts)) doing(name).addEventListener("click", act);

dialog.addEventListener("close", () => {
  if (!item()) return;
  const typing = document.activeElement?.matches("textarea, input, select"); // a quick hand is in the next field
  redraw();
  if (!typing) photo(eye.n)?.focus({ preventScroll: true });
  if (item().draft.box) tell(words.box_kept);
});

const STEPS = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] }; // CSS pixels
dialog.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { key } = event, letter = key.toLowerCase(), step = STEPS[key];
  if (step && eye.drawing) {
    nudge(eye.n, key, event.shiftKey);
    place();
  } else if (step && eye.scale > 1) pan(...step);
  else if (key === "ArrowLeft" || key === "PageUp") turn(-1);
  else if (key === "ArrowRight" || key === "PageDown") turn(1);
  else if (key === "+" || key === "=") acts.larger();
  else if (key === "-") acts.smaller();
  else if (key === "0") acts.fit();
  else if (letter === "b" && canDraw()) arm(!eye.drawing);
  else if (key === "Delete" || key === "Backspace") acts.remove();
  else if ((key === "Enter" && eye.drawing) || letter === "z") close();
  else if (key === " " && !event.target.matches("button")) close();
  else return;
  event.preventDefault();
});

// Where a pointer is on the canvas, and which of the photo's pixels lies there.
function spot(event) {
  const edge = canvas.getBoundingClientRect();
  return [event.clientX - edge.left, event.clientY - edge.top];
}
function pixel([x, y]) {
  const scale = (eye.scale * sheet.clientWidth) / item().photos[eye.n].size[0];
  return [(x - eye.x) / scale, (y - eye.y) / scale];
}

canvas.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  event.preventDefault();
  canvas.setPointerCapture(event.pointerId);
  eye.fingers.set(event.pointerId, spot(event));
  eye.start = eye.fingers.size === 1 ? spot(event) : null;
  eye.spread = 0;
});
canvas.addEventListener("pointermove", (event) => {
  const before = eye.fingers.get(event.pointerId);
  if (!before) return;
  const now = spot(event);
  eye.fingers.set(event.pointerId, now);
  if (eye.fingers.size === 2) {
    const [a, b] = [...eye.fingers.values()], spread = Math.hypot(a[0] - b[0], a[1] - b[1]);
    if (eye.spread) zoomBy(spread / eye.spread, (a[0] + b[0]) / 2, (a[1] + b[1]) / 2);
    eye.spread = spread;
  } else if (!eye.drawing) pan(now[0] - before[0], now[1] - before[1]);
  else if (eye.start && Math.hypot(now[0] - eye.start[0], now[1] - eye.start[1]) > 4) {
    setBox(eye.n, ...pixel(eye.start), ...pixel(now));
    place();
  }
});
for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, (event) => {
  eye.fingers.delete(event.pointerId);
  eye.spread = 0;
  if (eye.start && eye.drawing && item().draft.box) $("viewhint").textContent = `${words.box_kept} ${words.box_start}`;
  eye.start = null;
});
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoomBy(event.deltaY < 0 ? 1.2 : 1 / 1.2, ...spot(event));
}, { passive: false });
