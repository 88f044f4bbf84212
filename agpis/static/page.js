// What all scripts of the review pages use: elements, the words that came with the page, cookies.
// Text from the server always goes in as text, never as markup.

export const $ = (id) => document.getElementById(id);
const data = (id) => ($(id) ? JSON.parse($(id).textContent) : null);

export const me = document.body.dataset.reviewer;
export const boot = data("boot"); // what the page of the desk begins with; null on the others
export const words = { ...data("words"), ...boot?.words };
export const say = (key, values = {}) => words[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
export const remember = (name, value) => {
  document.cookie = `${name}=${value};path=/;max-age=31536000;samesite=lax`;
};

// make("p", {class: "x", onclick: act}, child, ...)
export function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (![null, undefined, false].includes(value)) element.setAttribute(key, value === true ? "" : value);
  }
  for (const child of children) if (![null, undefined, false, ""].includes(child)) element.append(child);
  return element;
}

// One line of what has just happened, for eyes and screen readers; it leaves by itself after a while.
export function tell(text) {
  const place = $("say");
  place.textContent = text;
  place.style.animation = "none"; // start again
  void place.offsetWidth;
  place.style.animation = "";
}
