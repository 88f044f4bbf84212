// The box on the photo at fault: [x, y, width, height] in whole pixels of the source, inside the photo, at least 1 x 1.

import { item } from "./desk.js";

// The box on photo n, or null.
export const boxed = (n) => (item().draft.photo === n ? item().draft.box : null);

// Between two corners, in any order; the photo becomes the one at fault.
export function setBox(n, x0, y0, x1, y1) {
  const [w, h] = item().photos[n].size;
  const clip = (v, most) => Math.round(Math.min(Math.max(v, 0), most));
  const left = Math.min(clip(Math.min(x0, x1), w), w - 1), top = Math.min(clip(Math.min(y0, y1), h), h - 1);
  const width = Math.max(1, clip(Math.max(x0, x1), w) - left), height = Math.max(1, clip(Math.max(y0, y1), h) - top);
  Object.assign(item().draft, { photo: n, box: [left, top, width, height] });
}

// By an arrow key, a fiftieth of the photo; `sizing`: its lower right corner only. Without a box: one in the middle.
export function nudge(n, key, sizing) {
  const [w, h] = item().photos[n].size, step = Math.max(1, Math.round(Math.max(w, h) / 50));
  const box = boxed(n);
  if (!box) {
    setBox(n, 0.3 * w, 0.3 * h, 0.7 * w, 0.7 * h);
    return;
  }
  const dx = step * ((key === "ArrowRight") - (key === "ArrowLeft"));
  const dy = step * ((key === "ArrowDown") - (key === "ArrowUp"));
  const within = (v, least, most) => Math.max(least, Math.min(most, v));
  let [x, y, width, height] = box;
  if (sizing) {
    width = within(width + dx, 1, w - x);
    height = within(height + dy, 1, h - y);
  } else {
    x = within(x + dx, 0, w - width);
    y = within(y + dy, 0, h - height);
  }
  setBox(n, x, y, x + width, y + height);
}

export function unbox() {
  item().draft.box = null;
}
