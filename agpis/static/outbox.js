// The outbox: a verdict lies in localStorage, under its own name, until the server has answered it. Its key makes a
// second sending harmless. One browser may be used by several people: each has a box, sent only under his own session.

import { me } from "./page.js";

// "change": something was sent, refused or went wrong. "sent": the server took one; detail {entry, data}.
export const outbox = new EventTarget();
export let trouble = ""; // why nothing can be sent now: "unreachable", "signed_out", or nothing

let csrf = document.querySelector("meta[name=csrf]")?.content || "";
const spare = new Map(); // where localStorage is full or forbidden: lost with the page, so better than nothing
let number = 0;

// Kinds: "out" waits to be sent, "refused" waits to be understood.
export function slots(kind) {
  const mine = `agpis ${kind} ${me} `;
  return [...Object.keys(localStorage), ...spare.keys()].filter((slot) => slot.startsWith(mine)).sort();
}
export const read = (slot) => JSON.parse(spare.get(slot) ?? localStorage.getItem(slot));
export function drop(slot) {
  spare.delete(slot);
  localStorage.removeItem(slot);
}
export function keep(kind, entry) {
  const time = String(Date.now()).padStart(15, "0"), nth = String((number += 1)).padStart(6, "0");
  const slot = `agpis ${kind} ${me} ${time} ${nth} ${entry.id}`;
  try {
    localStorage.setItem(slot, JSON.stringify(entry));
  } catch {
    spare.set(slot, JSON.stringify(entry));
  }
}

// A key that nobody else has, also where the page is not a secure context.
export function newKey() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 15) | 64;
  bytes[8] = (bytes[8] & 63) | 128;
  return [...bytes].map((b, i) => ([4, 6, 8, 10].includes(i) ? "-" : "") + b.toString(16).padStart(2, "0")).join("");
}

// {status, data} of a POST; status 0 where no answer came.
export async function call(path, body, again = false) {
  try {
    const response = await fetch(path, {
      method: "POST", body: JSON.stringify(body), keepalive: true, redirect: "error",
      headers: { "Content-Type": "application/json", "X-CSRF": csrf }, signal: AbortSignal.timeout(20000),
    });
    if (response.status === 403 && !again) { // the session changed under this page: fetch its new mark
      const now = await fetch("/api/session", { signal: AbortSignal.timeout(20000) });
      const session = await now.json();
      if (now.status !== 200 || session.reviewer !== me) return { status: 401 };
      csrf = session.csrf;
      return call(path, body, true);
    }
    return { status: response.status, data: await response.json() };
  } catch {
    return { status: 0 };
  }
}

// A call was not answered as it should be, or all is well again.
export function failed(status) {
  trouble = status === 401 ? "signed_out" : "unreachable";
  outbox.dispatchEvent(new Event("change"));
}
export function recovered() {
  trouble = "";
  outbox.dispatchEvent(new Event("change"));
}

let sending = null, timer = 0, wait = 1000; // ms
// Send what waits, one after the other; ends when nothing is left or nothing can be sent.
export function flush() {
  clearTimeout(timer);
  sending ??= (navigator.locks ? navigator.locks.request(`agpis ${me}`, drain) : drain()).finally(() => {
    sending = null;
    if (!trouble && slots("out").length) flush(); // put in while the last one was being answered
  });
  return sending;
}
async function drain() {
  for (let slot = slots("out")[0]; slot; slot = slots("out")[0]) {
    const entry = read(slot);
    const { status, data } = await call(entry.path, entry.body);
    if (status === 200) {
      drop(slot);
      outbox.dispatchEvent(new CustomEvent("sent", { detail: { entry, data } }));
    } else if ([404, 409, 413, 422].includes(status)) {
      drop(slot);
      keep("refused", { ...entry, why: data.message });
    } else {
      if (status !== 401) timer = setTimeout(flush, (wait = Math.min(wait * 2, 15000)) / 2);
      failed(status);
      return;
    }
    wait = 1000;
    recovered();
  }
  if (trouble === "unreachable") recovered();
  else outbox.dispatchEvent(new Event("change"));
}
addEventListener("online", flush);
addEventListener("storage", () => outbox.dispatchEvent(new Event("change"))); // another tab sent or refused
