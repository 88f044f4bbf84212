// The photos of a sequence: their pictures, loaded ahead, and the frames and boxes around them.

import { newDraft, others } from "./desk.js";
import { make } from "./page.js";

export const source = (it, n, size) => `/image/${it.id}/${n}/${size}?v=${it.v}`;

// Loads what a sequence needs, so that it can be shown at once: pictures are the same elements later on the page.
export function prepare(it) {
  it.draft = newDraft(it);
  it.large = new Map();
  it.small = new Map();
  for (const n of it.sequence) picture(it, n, "large");
  for (const n of others(it)) picture(it, n, "small");
  return it;
}

export function picture(it, n, size) {
  const known = it[size];
  if (!known.has(n)) {
    const image = make("img", { alt: "", draggable: "false" });
    image.src = source(it, n, size);
    image.decode().catch(() => {});
    known.set(n, image);
  }
  return known.get(n);
}

// The button of a photo on the page; null where it is not there.
export const photo = (n) => document.querySelector(`.photo[data-n="${n}"]`);

// A frame of the picture's shape within its square: boxes are percentages of it.
export function shape(frame, about, image) {
  const fit = (width, height) => frame.style.setProperty("--ratio", width / height);
  if (about.size) fit(...about.size);
  else if (image.naturalWidth) fit(image.naturalWidth, image.naturalHeight);
  else image.addEventListener("load", () => fit(image.naturalWidth, image.naturalHeight), { once: true });
}

// A box [x, y, width, height] on a photo of that size.
export function outline(box, size, kind = "box") {
  const mark = make("span", { class: kind });
  ["left", "top", "width", "height"].forEach((side, i) => { mark.style[side] = (100 * box[i]) / size[i % 2] + "%"; });
  return mark;
}
