// The script of the review pages. Three parts: the outbox (on every page), the desk (on /review), its viewer.
// Text from the server always goes in as text, never as markup.
"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const data = (id) => ($(id) ? JSON.parse($(id).textContent) : null);
  const me = document.body.dataset.reviewer;
  if (me === undefined) return;
  const boot = data("boot");
  const words = { ...data("words"), ...(boot ? boot.words : {}) };
  const say = (key, values = {}) => words[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
  const remember = (name, value) => { document.cookie = `${name}=${value};path=/;max-age=31536000;samesite=lax`; };
  remember("agpis_zone", Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC");

  // make("p", {class: "x"}, child, ...)
  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes || {})) {
      if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
      else if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value === true ? "" : value);
    }
    for (const child of children) if (child !== null && child !== undefined && child !== "") element.append(child);
    return element;
  }

  // The outbox ------------------------------------------------------------------------------------------------------
  // A verdict lies in localStorage, under its own name, until the server has answered it. Its key makes a second
  // sending harmless. One browser may be used by several people: each has a box, sent only under his own session.

  let csrf = document.querySelector("meta[name=csrf]")?.content || "";
  const spare = new Map(); // where localStorage is full or forbidden: lost with the page, so better than nothing
  const slots = (kind) => [...Object.keys(localStorage), ...spare.keys()].filter((k) => k.startsWith(`agpis ${kind} ${me} `)).sort();
  const read = (slot) => JSON.parse(spare.get(slot) ?? localStorage.getItem(slot));
  const drop = (slot) => { spare.delete(slot); localStorage.removeItem(slot); };
  let number = 0;
  function keep(kind, entry) {
    const slot = `agpis ${kind} ${me} ${String(Date.now()).padStart(15, "0")} ${String((number += 1)).padStart(6, "0")} ${entry.id}`;
    try { localStorage.setItem(slot, JSON.stringify(entry)); } catch { spare.set(slot, JSON.stringify(entry)); }
  }

  async function call(path, body, again = false) {
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

  let trouble = "";
  function notices() {
    const waiting = slots("out").length;
    const saved = $("saved");
    saved.textContent = waiting > 1 ? say("some_wait", { n: waiting }) : waiting ? words.one_waits : boot ? words.all_saved : "";
    saved.classList.toggle("waits", waiting > 0);
    const lines = [];
    if (trouble === "unreachable") lines.push(make("p", {}, words.unreachable));
    if (trouble === "signed_out") {
      const back = `/login?next=${encodeURIComponent(location.pathname + location.search)}`;
      lines.push(make("p", {}, words.signed_out + " ", make("a", { href: back }, words.sign_in_again)));
    }
    for (const slot of slots("refused")) {
      const entry = read(slot);
      lines.push(make("p", { class: "refused" }, make("b", {}, words.refused_title), " ",
        say("refused", { title: entry.title, what: entry.what, why: entry.why }), " ",
        make("button", { type: "button", onclick: () => { drop(slot); notices(); } }, words.dismiss)));
    }
    if (desk && desk.notice) lines.push(make("p", {}, desk.notice + " ",
      make("button", { type: "button", onclick: () => { desk.notice = ""; notices(); } }, words.dismiss)));
    const place = $("notices");
    if (place.textContent !== lines.map((line) => line.textContent).join("")) place.replaceChildren(...lines);
  }

  let sending = null, timer = 0, wait = 1000;
  function flush() {
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
      const answer = await call(entry.path, entry.body);
      if (answer.status === 200) {
        drop(slot);
        if (entry.path === "/api/undo" && !answer.data.item && desk) desk.undoFailed(entry.decision);
      } else if ([404, 409, 413, 422].includes(answer.status)) {
        drop(slot);
        keep("refused", { ...entry, why: answer.data.message });
      } else {
        trouble = answer.status === 401 ? "signed_out" : "unreachable";
        if (answer.status !== 401) timer = setTimeout(flush, (wait = Math.min(wait * 2, 15000)) / 2);
        notices();
        return;
      }
      trouble = "";
      wait = 1000;
      notices();
    }
    if (trouble === "unreachable") trouble = "";
    notices();
  }
  addEventListener("online", flush);
  addEventListener("storage", () => notices());

  // The desk --------------------------------------------------------------------------------------------------------

  const AHEAD = 5; // sequences at hand, their pictures loaded
  const PAUSE = 200; // ms in which nobody has seen the new sequence yet: a key held down was not meant for it
  const judged = new Set(); // what waits to be sent was judged before this page was opened: not to be shown again
  for (const entry of slots("out").map(read)) judged[entry.path === "/api/undo" ? "delete" : "add"](entry.decision);
  const desk = boot && {
    items: [], passing: [], done: judged, past: [], left: null, today: boot.today, notice: "", swapping: null, at: null,
    blind: boot.blind || localStorage.getItem("agpis blind") === "1", filling: false, ended: false,
    undoFailed(id) {
      if (this.items[0] && this.items[0].id === id) { this.items.shift(); render(true); fill(); }
      tell(words.undo_failed);
    },
  };
  notices();
  flush();
  if (!desk) return;

  const scopes = Object.fromEntries(boot.rules.map((rule) => [rule.id, rule.scope]));
  const names = Object.fromEntries(boot.rules.map((rule) => [rule.id, rule.name]));
  const rule_name = (id) => names[id] || id.replaceAll("_", " ");
  const percent = (p) => (p > 0 && p < 0.01 ? "<1 %" : p < 1 && p > 0.99 ? ">99 %" : Math.round(100 * p) + " %");
  function tell(text) {
    const place = $("say");
    place.textContent = text;
    place.style.animation = "none"; // it leaves by itself after a while: start again
    void place.offsetWidth;
    place.style.animation = "";
  }
  const item = () => desk.items[0];
  const source = (it, n, size) => `/image/${it.id}/${n}/${size}?v=${it.v}`;
  const opinion = (it) => (desk.blind ? null : it.opinion);
  const changed = (it) => it.sequence.join() !== it.draft.sequence.join();
  const others = (it) => it.photos.map((_, n) => n).filter((n) => !it.draft.sequence.includes(n));

  // Loads what a sequence needs, so that it can be shown at once: pictures are the same elements later on the page.
  function prepare(it) {
    it.draft = { sequence: [...it.sequence], rules: [], auto: false, photo: null, box: null, words: "", touched: false, seen: false, looked: 0 };
    it.large = new Map();
    it.small = new Map();
    for (const n of it.sequence) picture(it, n, "large");
    for (const n of others(it)) picture(it, n, "small");
    return it;
  }
  function picture(it, n, size) {
    const known = it[size];
    if (!known.has(n)) {
      const image = make("img", { alt: "", draggable: "false" });
      image.src = source(it, n, size);
      image.decode().catch(() => {});
      known.set(n, image);
    }
    return known.get(n);
  }

  async function fill(first = null) {
    if (desk.filling) return;
    const missing = AHEAD - desk.items.length;
    const veiled = !desk.blind && desk.items.some((it) => !it.opinion);
    if (missing <= 0 && !veiled) return;
    desk.filling = true;
    const sent = slots("out").length;
    const answer = await call("/api/lease", {
      count: Math.min(20, AHEAD + sent), first, passing: desk.passing.slice(-500), blind: desk.blind, filter: location.search,
    });
    desk.filling = false;
    if (answer.status !== 200) {
      trouble = answer.status === 401 ? "signed_out" : "unreachable";
      notices();
      if (answer.status !== 401) setTimeout(() => fill(first), 2000);
      return;
    }
    if (trouble && !slots("out").length) { trouble = ""; notices(); }
    const before = desk.items.length, empty = !before;
    let unveiled = false;
    for (const found of answer.data.items) {
      const held = desk.items.find((it) => it.id === found.id);
      if (held) {
        if (!held.opinion && found.opinion) { Object.assign(held, { opinion: found.opinion, photos: found.photos }); unveiled = true; }
      } else if (!desk.done.has(found.id)) desk.items.push(prepare(found));
    }
    if (answer.data.taken) { desk.notice = `${words.taken_title}. ${words.taken}`; notices(); }
    desk.left = answer.data.left;
    desk.ended = !desk.items.length;
    if (empty || unveiled) render(empty);
    else counts();
    if (desk.ended) setTimeout(() => fill(), sent ? 1500 : 15000);
    else if (answer.data.items.length && desk.items.length < AHEAD && desk.items.length > before) fill();
  }

  function counts() {
    const waiting = slots("out").filter((slot) => read(slot).path === "/api/verdict").length;
    $("left").textContent = desk.left === null ? "" : say("left", { n: Math.max(desk.items.length, desk.left - waiting).toLocaleString("en") });
    $("today").textContent = say("today", { n: desk.today });
  }

  // Drawing the page

  let shown = 0, since = null;
  const clock = () => { const now = performance.now(); const it = item(); if (it && since !== null) it.draft.looked += now - since; since = document.hidden ? null : now; };

  function render(fresh = false) {
    const it = item();
    $("desk").hidden = !it;
    $("state").hidden = Boolean(it);
    counts();
    if (!it) {
      $("state").replaceChildren(...(desk.ended
        ? [words.all_done, make("br"), make("span", { class: "muted" }, words.all_done_hint), make("br"), make("a", { href: "/queue" }, words.to_queue)]
        : [words.loading]));
      document.title = words.review;
      return;
    }
    if (fresh) {
      desk.swapping = null;
      desk.at = null;
      clock();
      document.title = `${it.title} · ${words.product}`;
      $("title").textContent = it.title;
      const past = it.seen === 1 ? words.seen_before_one : it.seen ? say("seen_before", { n: it.seen }) : words.history;
      $("about").replaceChildren(...[it.status && make("b", {}, it.status), make("bdi", {}, it.sku), it.category && make("bdi", {}, it.category),
        make("a", { href: `/history?sku=${encodeURIComponent(it.sku)}` }, past)].filter(Boolean).flatMap((e, i) => (i ? [" · ", e] : [e])));
    }
    if (opinion(it)) it.draft.seen = true;
    const focused = document.activeElement?.closest?.("#sequence, #others") ? document.activeElement.dataset.n : null;
    $("sequence").replaceChildren(...it.draft.sequence.map((n, place) => tile(it, n, place)), ...vacancy(it));
    $("sequence").classList.toggle("many", it.draft.sequence.length > 3);
    $("others").replaceChildren(...others(it).map((n, place, all) => tile(it, n, place, all.length)));
    $("no_others").hidden = others(it).length > 0;
    if (focused !== null) photo(Number(focused))?.focus({ preventScroll: true });
    $("corrected").hidden = !changed(it);
    $("accept").firstElementChild.textContent = changed(it) ? words.accept_corrected : words.accept;
    drawOpinion(it);
    drawRules(it);
    drawWords(it);
    if (fresh) {
      scrollTo(0, 0);
      $("title").focus({ preventScroll: true });
      shown = performance.now();
    }
  }

  const photo = (n) => document.querySelector(`.photo[data-n="${n}"]`);

  function tile(it, n, place, spares = 0) {
    const about = it.photos[n], inside = !spares, draft = it.draft, last = draft.sequence.length - 1;
    const original = it.sequence.includes(n);
    const fault = draft.photo === n;
    const label = say(inside ? "place_label" : "other_label", { n: place + 1, of: inside ? last + 1 : spares });
    const doubt = opinion(it) && inside ? it.opinion.suspects.filter((s) => s.photo === n).map((s) => say("doubt", { rule: s.name })) : [];
    const notes = [...(!desk.blind && about.why ? [about.why] : []), ...doubt];
    const image = inside ? picture(it, n, "large") : it.small.get(n) || it.large.get(n) || picture(it, n, "small");
    const frame = make("span", { class: "frame" }, image, ...(fault && draft.box ? [outline(draft.box, about.size)] : []));
    shape(frame, about, image);
    const button = make("button", {
      type: "button", class: "photo", "data-n": n, "aria-pressed": original ? String(fault) : null,
      "aria-label": [label, about.name, ...notes, fault ? words.at_fault : ""].filter(Boolean).join(", "),
      tabindex: desk.at === n || (desk.at === null && inside && place === 0) ? "0" : "-1",
      onclick: () => choose(n), ondblclick: () => view(n), onfocus: () => { desk.at = n; },
    }, frame, inside ? make("span", { class: "badge" }, place ? String(place + 1) : words.place_primary) : null,
    fault ? make("span", { class: "fault" }, words.at_fault) : null);
    const tool = (text, aria, act, attributes = {}) => make("button", { type: "button", "aria-label": `${aria}, ${label}`, title: aria, tabindex: "-1", onclick: act, ...attributes }, text);
    const grip = make("span", { class: "grip", "data-grip": n, title: words.drag, "aria-hidden": "true" }, "⠿");
    const tools = inside
      ? [grip, original && tool(words.at_fault, words.at_fault, () => blame(n), { "aria-pressed": String(fault) }),
        original && tool(words.draw_box, words.draw_box, () => view(n, true)), tool("←", words.earlier, () => move(n, -1), { disabled: place === 0 }),
        tool("→", words.later, () => move(n, 1), { disabled: place === last }), tool("×", words.take_out, () => takeOut(n)), tool(words.zoom, words.zoom, () => view(n))]
      : [grip, tool(words.swap, words.swap, () => swap(n)), tool(words.zoom, words.zoom, () => view(n))];
    return make("li", { class: `tile${fault ? " blamed" : ""}${about.removed ? " removed" : ""}${desk.swapping === n ? " moving" : ""}`, ...(inside ? { "data-place": place } : {}) },
      button, desk.swapping !== null && inside ? make("button", { type: "button", class: "here", onclick: () => put(desk.swapping, place) }, words.place_here) : null,
      make("div", { class: "tools" }, ...tools.filter(Boolean)),
      make("div", { class: "caption" }, make("span", { class: "file", dir: "auto", title: about.name }, about.name), ...notes.map((note) => make("span", { class: "note" }, note))));
  }

  function vacancy(it) {
    const room = it.draft.sequence.length < Math.max(it.sequence.length, 3) && others(it).length && (desk.swapping !== null || !it.draft.sequence.length || changed(it));
    return room ? [make("li", { class: "tile vacant", "data-place": it.draft.sequence.length },
      desk.swapping !== null ? make("button", { type: "button", class: "here", onclick: () => put(desk.swapping, it.draft.sequence.length) }, words.place_here) : make("span", { "aria-hidden": "true" }, "+"))] : [];
  }

  // A frame of the picture's shape within its square: boxes are percentages of it.
  function shape(frame, about, image) {
    const fit = (w, h) => frame.style.setProperty("--ratio", w / h);
    if (about.size) fit(...about.size);
    else if (image.naturalWidth) fit(image.naturalWidth, image.naturalHeight);
    else image.addEventListener("load", () => fit(image.naturalWidth, image.naturalHeight), { once: true });
  }
  function outline(box, size, kind = "box") {
    const mark = make("span", { class: kind });
    ["left", "top", "width", "height"].forEach((side, i) => { mark.style[side] = (100 * box[i]) / size[i % 2] + "%"; });
    return mark;
  }

  function drawOpinion(it) {
    const told = opinion(it);
    if (!told) { $("opinion").replaceChildren(make("p", { class: "muted" }, words.hidden)); return; }
    const parts = [];
    if (told.p !== null) {
      const meter = make("span", { class: "meter", "aria-hidden": "true" }, make("span"));
      meter.firstChild.style.width = 100 * told.p + "%";
      parts.push(make("p", { class: "chance" }, make("b", {}, percent(told.p)), " ", words.chance), meter);
    }
    const suspects = told.suspects.map((s, i) => [i ? ", " : "", make("b", {}, s.name), s.p === null ? "" : ` ${percent(s.p)}`,
      it.draft.sequence.includes(s.photo) ? ` (${words.photo} ${it.draft.sequence.indexOf(s.photo) + 1})` : ""]).flat();
    parts.push(make("p", {}, ...(suspects.length
      ? [`${words.suspects}: `, ...suspects, " ", make("button", { type: "button", class: "quiet", onclick: agree }, words.use + " ", make("kbd", {}, "M"))]
      : [make("span", { class: "muted" }, words.suspects_nothing)])));
    $("opinion").replaceChildren(make("h2", {}, words.opinion), ...parts);
  }

  function drawRules(it) {
    const suspects = Object.fromEntries((opinion(it)?.suspects || []).map((s) => [s.rule, s.p]));
    const numbered = boot.rules.slice(0, 9);
    if (!$("rules").childElementCount) {
      for (const scope of ["single", "pair", "multi"]) {
        const rules = numbered.filter((rule) => rule.scope === scope);
        if (rules.length) $("rules").append(make("h3", {}, words[`scope_${scope}`]), ...rules.map((rule) => make("button",
          { type: "button", class: "rule", "data-rule": rule.id, title: rule.about, onclick: () => toggle(rule.id) },
          make("kbd", {}, String(numbered.indexOf(rule) + 1)), make("span", {}, rule.name), make("span", { class: "model" }))));
      }
    }
    for (const button of $("rules").querySelectorAll(".rule")) {
      const id = button.dataset.rule;
      button.setAttribute("aria-pressed", String(it.draft.rules.includes(id)));
      button.lastChild.textContent = id in suspects && suspects[id] !== null ? percent(suspects[id]) : "";
    }
    $("chosen").replaceChildren(...it.draft.rules.map((id) => make("button",
      { type: "button", class: "chip", "aria-label": say("remove_rule", { rule: rule_name(id) }), onclick: () => toggle(id) }, rule_name(id), " ×")));
  }

  // What stands in the text field while the reviewer has not touched it: the model's words, unless he names another rule.
  function modelWords(it) {
    const told = opinion(it), rules = it.draft.rules;
    return told && told.feedback && (!rules.length || !told.suspects.length || rules.includes(told.suspects[0].rule)) ? told.feedback : "";
  }
  function drawWords(it) {
    const field = $("feedback"), text = it.draft.touched ? it.draft.words : modelWords(it);
    if (field.value !== text) field.value = text;
    const foreign = !it.draft.touched && text !== "";
    field.classList.toggle("foreign", foreign);
    $("author").hidden = !foreign;
    $("author").firstElementChild.textContent = foreign ? (it.opinion.by === "rulebook" ? words.rulebooks_words : words.models_words) : "";
  }

  // What a reviewer can do

  function judge(accepted) {
    const it = item();
    if (!it || performance.now() - shown < PAUSE) return;
    const draft = it.draft, corrected = changed(it) && draft.sequence.length ? draft.sequence : [];
    const own = draft.touched ? draft.words.trim() : "";
    if (accepted && !corrected.length) {
      if (!it.sequence.length || changed(it)) { tell(words.no_sequence_to_accept); return; }
      if (draft.rules.length || own) { tell(words.contradiction); return; }
    }
    if (!accepted && !draft.rules.length && !own) { tell(words.say_why); return; }
    clock();
    const key = crypto.randomUUID ? crypto.randomUUID() : uuid();
    const what = accepted ? (corrected.length ? words.corrected_short : words.accepted) : words.rejected;
    const sound = accepted && !corrected.length;
    keep("out", {
      id: key, path: "/api/verdict", decision: it.id, title: it.title, what: [what, ...draft.rules.map(rule_name)].join(", "),
      body: {
        key, decision: it.id, v: it.v, accepted: sound, rules: sound ? [] : draft.rules, photo: sound ? null : draft.photo, box: sound ? null : draft.box,
        feedback: sound ? "" : own || (accepted || draft.touched ? "" : modelWords(it)), corrected,
        seconds: Math.min(86400, Math.round(draft.looked / 100) / 10), blind: !draft.seen,
      },
    });
    desk.past.push({ it, key });
    desk.done.add(it.id);
    desk.today += 1;
    go(say("did", { what, title: it.title }));
    flush().then(() => fill());
  }
  function go(text) {
    desk.items.shift();
    render(true);
    tell(text);
    notices();
    fill();
  }
  function uuid() { // where the page is not a secure context
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    bytes[6] = (bytes[6] & 15) | 64;
    bytes[8] = (bytes[8] & 63) | 128;
    return [...bytes].map((b, i) => ([4, 6, 8, 10].includes(i) ? "-" : "") + b.toString(16).padStart(2, "0")).join("");
  }
  function skip() {
    const it = item();
    if (!it || performance.now() - shown < PAUSE) return;
    clock();
    desk.passing.push(it.id);
    desk.past.push({ it, key: null });
    go(say("did", { what: words.skipped, title: it.title }));
  }
  async function undo() {
    const last = desk.past.pop();
    if (last) {
      clock();
      since = null;
      if (last.key) {
        keep("out", { id: crypto.randomUUID ? crypto.randomUUID() : uuid(), path: "/api/undo", decision: last.it.id, title: last.it.title, what: words.undo, body: { key: last.key, blind: desk.blind } });
        desk.done.delete(last.it.id);
        desk.today -= 1;
      } else desk.passing = desk.passing.filter((id) => id !== last.it.id);
      desk.items = [last.it, ...desk.items.filter((it) => it.id !== last.it.id)];
      render(true);
      tell(say("undone", { title: last.it.title }));
      flush();
      return;
    }
    await flush(); // a verdict given before this page was loaded
    const answer = slots("out").length ? { status: 0 } : await call("/api/undo", { key: null, blind: desk.blind });
    if (answer.status !== 200 || !answer.data.item) { tell(words.nothing_to_undo); return; }
    const it = prepare(answer.data.item);
    desk.items = [it, ...desk.items.filter((other) => other.id !== it.id)];
    desk.today = Math.max(0, desk.today - 1);
    render(true);
    tell(say("undone", { title: it.title }));
  }

  function toggle(rule) {
    const draft = item().draft;
    draft.auto = false;
    draft.rules = draft.rules.includes(rule) ? draft.rules.filter((id) => id !== rule) : [...draft.rules, rule];
    tell(rule_name(rule) + (draft.rules.includes(rule) ? "" : " ×"));
    render();
  }
  function agree() {
    const it = item(), first = opinion(it)?.suspects[0];
    if (!first) return;
    it.draft.rules = [first.rule, ...it.draft.rules.filter((id) => id !== first.rule)];
    if (it.draft.photo === null && scopes[first.rule] !== "multi" && it.sequence.includes(first.photo)) it.draft.photo = first.photo;
    tell(first.name);
    render();
  }
  function blame(n) {
    const it = item(), draft = it.draft;
    if (!it.sequence.includes(n)) { tell(words.not_blamed); return; }
    draft.photo = draft.photo === n ? null : n;
    draft.box = null;
    tell(draft.photo === null ? words.unblamed : words.blamed);
    render();
  }
  function choose(n) {
    if (dragged) return;
    if (desk.swapping !== null && item().draft.sequence.includes(n)) put(desk.swapping, item().draft.sequence.indexOf(n));
    else if (item().draft.sequence.includes(n) && item().sequence.includes(n)) blame(n);
    else swap(n);
  }
  function move(n, step, to = null) {
    const draft = item().draft, from = draft.sequence.indexOf(n), place = to ?? from + step;
    if (from < 0 || place < 0 || place >= draft.sequence.length) return;
    draft.sequence.splice(place, 0, ...draft.sequence.splice(from, 1));
    reordered(n);
    tell(say("moved", { n: place + 1 }));
  }
  function takeOut(n) {
    const draft = item().draft;
    if (!draft.sequence.includes(n)) return;
    draft.sequence = draft.sequence.filter((other) => other !== n);
    reordered(n);
    tell(words.taken_out);
  }
  function swap(n) {
    if (item().draft.sequence.includes(n)) return;
    desk.swapping = desk.swapping === n ? null : n;
    render();
    tell(desk.swapping === null ? "" : say("swap_where", { n: Math.min(9, $("sequence").childElementCount) }));
  }
  function put(n, place) {
    const draft = item().draft;
    desk.swapping = null;
    if (place >= 0 && place <= draft.sequence.length) draft.sequence.splice(place, 1, n);
    reordered(n);
    tell(say("swapped", { n: place + 1 }));
  }
  // An order that differs in nothing but the order says that the order was wrong, until the reviewer says otherwise.
  function reordered(n) {
    const it = item(), draft = it.draft;
    const only = changed(it) && [...it.sequence].sort().join() === [...draft.sequence].sort().join();
    if (only && !draft.rules.length && "wrong_order" in names) { draft.rules = ["wrong_order"]; draft.auto = true; }
    else if (!only && draft.auto) { draft.rules = []; draft.auto = false; }
    render();
    photo(n)?.focus({ preventScroll: true });
  }
  function restore() {
    const it = item();
    it.draft.sequence = [...it.sequence];
    if (it.draft.auto) { it.draft.rules = []; it.draft.auto = false; }
    desk.swapping = null;
    render();
  }
  function hide(wanted) {
    desk.blind = boot.blind || wanted;
    localStorage.setItem("agpis blind", desk.blind ? "1" : "0");
    remember("agpis_blind", desk.blind ? "1" : "0");
    $("blind").checked = desk.blind;
    if (item()) render();
    fill();
  }

  // The list of all rules

  let active = -1;
  function found() {
    const text = $("find").value.trim().toLowerCase();
    const score = (rule) => { const name = rule.name.toLowerCase(); return name.startsWith(text) ? 0 : name.split(/\W+/).some((part) => part.startsWith(text)) ? 1 : name.includes(text) || rule.id.includes(text) ? 2 : 3; };
    return boot.rules.map((rule) => [score(rule), rule]).filter(([s]) => s < 3).sort((a, b) => a[0] - b[0]).map(([, rule]) => rule);
  }
  function list(open) {
    const rules = open ? found() : [];
    active = Math.min(Math.max(active, 0), rules.length - 1);
    $("found").replaceChildren(...rules.map((rule, i) => make("li", {
      role: "option", id: `rule-${i}`, "aria-selected": String(i === active), title: rule.about,
      onpointerdown: (event) => { event.preventDefault(); pick(rule); },
    }, rule.name, make("span", { class: "muted" }, words[`scope_${rule.scope}`]))), ...(open && !rules.length ? [make("li", { class: "muted" }, words.no_rule)] : []));
    $("found").hidden = !open;
    $("find").setAttribute("aria-expanded", String(open));
    if (open && active >= 0) { $("find").setAttribute("aria-activedescendant", `rule-${active}`); $("found").children[active].scrollIntoView({ block: "nearest" }); }
    else $("find").removeAttribute("aria-activedescendant");
  }
  function pick(rule) { $("find").value = ""; list(false); $("find").blur(); toggle(rule.id); $("title").focus({ preventScroll: true }); }
  $("find").addEventListener("focus", () => { active = 0; list(true); });
  $("find").addEventListener("blur", () => list(false));
  $("find").addEventListener("input", () => { active = 0; list(true); });
  $("find").addEventListener("keydown", (event) => {
    const rules = found();
    if (event.key === "ArrowDown" || event.key === "ArrowUp") { active = (active + (event.key === "ArrowDown" ? 1 : rules.length - 1)) % Math.max(1, rules.length); list(true); }
    else if (event.key === "Enter" && rules[active]) pick(rules[active]);
    else if (event.key === "Escape") { $("find").value = ""; $("title").focus({ preventScroll: true }); }
    else return;
    event.preventDefault();
    event.stopPropagation();
  });

  // Keys and buttons

  function walk(key) {
    const inside = [...$("sequence").querySelectorAll(".photo")], rest = [...$("others").querySelectorAll(".photo")];
    const now = document.activeElement;
    const row = rest.includes(now) ? rest : inside, i = row.indexOf(now);
    const next = key === "ArrowUp" ? inside[Math.min(Math.max(i, 0), inside.length - 1)] : key === "ArrowDown" ? rest[Math.min(Math.max(i, 0), rest.length - 1)]
      : i < 0 ? (inside[0] || rest[0]) : row[i + (key === "ArrowRight" ? 1 : -1)];
    next?.focus();
    next?.scrollIntoView({ block: "nearest" });
  }
  const at = () => { const n = document.activeElement?.dataset?.n; return n === undefined ? null : Number(n); };
  const aim = () => at() ?? item().draft.photo ?? item().draft.sequence[0];

  document.addEventListener("keydown", (event) => {
    lastInput = Date.now();
    if (event.isComposing || $("help").open || $("viewer").open) return;
    const typing = event.target.matches("textarea, input:not([type=checkbox]), select");
    const command = event.ctrlKey || event.metaKey;
    if (event.key === "Escape" && typing) { $("title").focus({ preventScroll: true }); return; }
    if (command && event.key === "Enter" && item()) { event.preventDefault(); if (!event.repeat) judge(false); return; }
    if (command && event.key.toLowerCase() === "z" && !typing) { event.preventDefault(); undo(); return; }
    if (typing || command || event.altKey || !item()) {
      if (!typing && !command && event.key === "?") $("help").showModal();
      if (!typing && !command && !item() && event.key.toLowerCase() === "u") undo();
      if (!typing && !command && !item() && event.key.toLowerCase() === "g") location.assign("/queue" + location.search);
      return;
    }
    if (!$("single").checked && event.key.length === 1 && event.key !== " ") return;
    const digit = /^(?:Digit|Numpad)([1-9])$/.exec(event.code), n = at(), key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (event.key === "?") $("help").showModal();
    else if (digit && desk.swapping !== null) { if (digit[1] <= $("sequence").childElementCount) put(desk.swapping, digit[1] - 1); }
    else if (digit && event.shiftKey) { const named = item().draft.sequence[digit[1] - 1]; if (named !== undefined) blame(named); }
    else if (digit) { const rule = boot.rules[digit[1] - 1]; if (rule) toggle(rule.id); }
    else if (event.key.startsWith("Arrow") && event.shiftKey && n !== null) { if (/Left|Right/.test(event.key)) move(n, event.key === "ArrowLeft" ? -1 : 1); }
    else if (event.key.startsWith("Arrow")) walk(event.key);
    else if (event.repeat) { if (key !== " ") return; }
    else if (key === "a") judge(true);
    else if (key === "r") judge(false);
    else if (key === "n") skip();
    else if (key === "u") undo();
    else if (key === "m") agree();
    else if (key === "f") { $("feedback").focus(); $("feedback").setSelectionRange($("feedback").value.length, $("feedback").value.length); }
    else if (key === "/") $("find").focus();
    else if (key === "i" && n !== null) blame(n);
    else if (key === "b") view(item().sequence.includes(aim()) ? aim() : item().sequence[0], true);
    else if (key === "z" || (key === " " && (n !== null || !event.target.matches("button, a, input")))) view(aim());
    else if (key === "s" && n !== null) swap(n);
    else if ((key === "Delete" || key === "Backspace") && n !== null) takeOut(n);
    else if (key === "o") restore();
    else if (key === "h") hide(!desk.blind);
    else if (key === "g") location.assign("/queue" + location.search);
    else if (key === "Escape" && desk.swapping !== null) { swap(desk.swapping); }
    else return;
    event.preventDefault();
  });
  for (const [id, act] of Object.entries({ accept: () => judge(true), reject: () => judge(false), next: skip, undo, restore, keys: () => $("help").showModal() })) $(id).addEventListener("click", act);
  $("single").checked = localStorage.getItem("agpis keys") !== "0";
  $("single").addEventListener("change", () => localStorage.setItem("agpis keys", $("single").checked ? "1" : "0"));
  $("blind").checked = desk.blind;
  $("blind").disabled = boot.blind;
  $("blind").addEventListener("change", () => { hide($("blind").checked); $("blind").blur(); });
  $("feedback").addEventListener("input", () => {
    const draft = item().draft;
    draft.words = $("feedback").value;
    draft.touched = true;
    drawWords(item());
  });
  $("clear_words").addEventListener("click", () => { Object.assign(item().draft, { touched: true, words: "" }); drawWords(item()); $("feedback").focus(); });

  // Dragging: the mouse takes a photo anywhere, a finger takes its grip (elsewhere it scrolls).

  let drag = null, dragged = false;
  document.addEventListener("pointerdown", (event) => {
    lastInput = Date.now();
    dragged = false;
    const grip = event.target.closest("[data-grip]"), held = grip || (event.pointerType === "mouse" && event.button === 0 && event.target.closest(".photo"));
    if (!held) return;
    if (grip) event.preventDefault();
    drag = { n: Number(grip ? grip.dataset.grip : held.dataset.n), x: event.clientX, y: event.clientY, id: event.pointerId, ghost: null, over: null };
  });
  document.addEventListener("pointermove", (event) => {
    if (!drag || event.pointerId !== drag.id) return;
    if (!drag.ghost) {
      if (Math.hypot(event.clientX - drag.x, event.clientY - drag.y) < 7) return;
      drag.ghost = make("div", { class: "ghost", "aria-hidden": "true" }, make("img", { src: source(item(), drag.n, "small"), alt: "" }));
      document.body.append(drag.ghost);
      document.body.classList.add("dragging");
    }
    drag.ghost.style.transform = `translate(${event.clientX}px, ${event.clientY}px)`;
    const under = document.elementFromPoint(event.clientX, event.clientY);
    const over = under?.closest("#sequence .tile") || (item().draft.sequence.includes(drag.n) ? under?.closest("#others") : null);
    if (over !== drag.over) { drag.over?.classList.remove("over"); over?.classList.add("over"); drag.over = over; }
  });
  function release(event, kept) {
    if (!drag || event.pointerId !== drag.id) return;
    const { n, ghost, over } = drag;
    drag = null;
    if (!ghost) return;
    ghost.remove();
    document.body.classList.remove("dragging");
    over?.classList.remove("over");
    dragged = true; // the click that follows was the end of the drag
    setTimeout(() => { dragged = false; }, 0);
    if (!kept || !over || !item()) return;
    const place = Number(over.dataset.place), sequence = item().draft.sequence;
    if (over.id === "others") takeOut(n);
    else if (!sequence.includes(n)) put(n, place);
    else move(n, 0, Math.min(place, sequence.length - 1));
  }
  document.addEventListener("pointerup", (event) => release(event, true));
  document.addEventListener("pointercancel", (event) => release(event, false));

  // The viewer: one photo large, and the box on it -------------------------------------------------------------------

  const dialog = $("viewer"), canvas = $("canvas"), sheet = $("sheet");
  const eye = { n: 0, x: 0, y: 0, scale: 1, drawing: false, start: null, fingers: new Map(), spread: 0 };
  const doing = (name) => dialog.querySelector(`[data-do="${name}"]`);
  const canDraw = () => item().sequence.includes(eye.n);

  function view(n, drawing = false) {
    if (n === undefined || n === null) return;
    desk.at = n;
    eye.n = n;
    if (!dialog.open) dialog.showModal();
    const it = item(), about = it.photos[n];
    const image = make("img", { src: source(it, n, "zoom"), alt: about.name, draggable: "false" });
    const small = it.large.get(n) || it.small.get(n); // until the large one has come
    if (small?.complete && small.naturalWidth) sheet.style.backgroundImage = `url("${small.src}")`;
    const [w, h] = about.size || [small?.naturalWidth || 4, small?.naturalHeight || 3];
    const room = [canvas.clientWidth - 24, canvas.clientHeight - 24], fit = Math.min(room[0] / w, room[1] / h);
    sheet.style.width = `${w * fit}px`;
    sheet.style.height = `${h * fit}px`;
    sheet.replaceChildren(image);
    Object.assign(eye, { x: (canvas.clientWidth - w * fit) / 2, y: (canvas.clientHeight - h * fit) / 2, scale: 1 });
    const place = it.draft.sequence.indexOf(n);
    $("viewname").textContent = (place < 0 ? "" : `${place + 1} · `) + about.name + (about.size ? ` · ${about.size.join(" × ")}` : "");
    arm(drawing && canDraw());
    canvas.focus();
  }
  function arm(drawing) {
    if (drawing && !item().photos[eye.n].size) { drawing = false; $("viewhint").textContent = words.size_unknown; }
    else $("viewhint").textContent = drawing ? words.box_start : canDraw() ? "" : words.not_blamed;
    eye.drawing = drawing;
    doing("box").setAttribute("aria-pressed", String(drawing));
    doing("box").disabled = !canDraw();
    canvas.classList.toggle("drawing", drawing);
    place();
  }
  function place() {
    sheet.style.transform = `translate(${eye.x}px, ${eye.y}px) scale(${eye.scale})`;
    sheet.style.setProperty("--scale", eye.scale);
    for (const mark of sheet.querySelectorAll(".box, .found")) mark.remove();
    const it = item(), about = it.photos[eye.n], draft = it.draft;
    if (about.size) {
      for (const box of (!desk.blind && about.boxes) || []) sheet.append(outline(box, about.size, "found"));
      if (draft.photo === eye.n && draft.box) sheet.append(outline(draft.box, about.size));
    }
    const boxed = draft.photo === eye.n && Boolean(draft.box);
    doing("remove").hidden = !boxed;
    doing("keep").hidden = !boxed;
  }
  function zoomBy(factor, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
    const scale = Math.min(16, Math.max(1, eye.scale * factor)), by = scale / eye.scale;
    Object.assign(eye, { x: x - (x - eye.x) * by, y: y - (y - eye.y) * by, scale });
    place();
  }
  // Whole source pixels, inside the photo, at least 1 x 1.
  function setBox(x0, y0, x1, y1) {
    const [w, h] = item().photos[eye.n].size;
    const clip = (v, most) => Math.round(Math.min(Math.max(v, 0), most));
    const left = Math.min(clip(Math.min(x0, x1), w), w - 1), top = Math.min(clip(Math.min(y0, y1), h), h - 1);
    const box = [left, top, Math.max(1, clip(Math.max(x0, x1), w) - left), Math.max(1, clip(Math.max(y0, y1), h) - top)];
    Object.assign(item().draft, { photo: eye.n, box });
    place();
  }
  function nudge(key, sizing) {
    const it = item(), [w, h] = it.photos[eye.n].size, step = Math.max(1, Math.round(Math.max(w, h) / 50));
    const box = it.draft.photo === eye.n && it.draft.box;
    if (!box) { setBox(0.3 * w, 0.3 * h, 0.7 * w, 0.7 * h); return; }
    let [x, y, bw, bh] = box;
    const dx = (key === "ArrowRight") - (key === "ArrowLeft"), dy = (key === "ArrowDown") - (key === "ArrowUp");
    if (sizing) { bw = Math.max(1, Math.min(w - x, bw + dx * step)); bh = Math.max(1, Math.min(h - y, bh + dy * step)); }
    else { x = Math.min(Math.max(0, x + dx * step), w - bw); y = Math.min(Math.max(0, y + dy * step), h - bh); }
    setBox(x, y, x + bw, y + bh);
  }
  function unbox() { item().draft.box = null; $("viewhint").textContent = words.box_removed; place(); }
  function turn(step) {
    const it = item(), all = [...it.draft.sequence, ...others(it)];
    view(all[(all.indexOf(eye.n) + step + all.length) % all.length], false);
  }
  const acts = {
    previous: () => turn(-1), following: () => turn(1), smaller: () => zoomBy(1 / 1.5), larger: () => zoomBy(1.5), fit: () => view(eye.n, eye.drawing),
    box: () => arm(!eye.drawing), remove: unbox, keep: () => dialog.close(), close: () => dialog.close(),
  };
  for (const [name, act] of Object.entries(acts)) doing(name).addEventListener("click", act);
  dialog.addEventListener("close", () => {
    if (!item()) return;
    const typing = document.activeElement?.matches("textarea, input, select");  // a quick hand is in the next field already
    render();
    if (!typing) photo(eye.n)?.focus({ preventScroll: true });
    if (item().draft.box) tell(words.box_kept);
  });
  dialog.addEventListener("keydown", (event) => {
    lastInput = Date.now();
    const steps = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in steps && eye.drawing) nudge(event.key, event.shiftKey);
    else if (event.key in steps && eye.scale > 1) { eye.x += steps[event.key][0]; eye.y += steps[event.key][1]; place(); }
    else if (event.key === "ArrowLeft" || event.key === "PageUp") turn(-1);
    else if (event.key === "ArrowRight" || event.key === "PageDown") turn(1);
    else if (event.key === "+" || event.key === "=") zoomBy(1.5);
    else if (event.key === "-") zoomBy(1 / 1.5);
    else if (event.key === "0") acts.fit();
    else if (event.key.toLowerCase() === "b" && canDraw()) arm(!eye.drawing);
    else if (event.key === "Delete" || event.key === "Backspace") unbox();
    else if ((event.key === "Enter" && eye.drawing) || event.key.toLowerCase() === "z" || (event.key === " " && !event.target.matches("button"))) dialog.close();
    else return;
    event.preventDefault();
  });
  const spot = (event) => { const edge = canvas.getBoundingClientRect(); return [event.clientX - edge.left, event.clientY - edge.top]; };
  const pixel = ([x, y]) => { const scale = (eye.scale * sheet.clientWidth) / item().photos[eye.n].size[0]; return [(x - eye.x) / scale, (y - eye.y) / scale]; };
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
    } else if (eye.drawing && eye.start) {
      if (Math.hypot(now[0] - eye.start[0], now[1] - eye.start[1]) > 4) setBox(...pixel(eye.start), ...pixel(now));
    } else if (!eye.drawing) { eye.x += now[0] - before[0]; eye.y += now[1] - before[1]; place(); }
  });
  for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, (event) => {
    eye.fingers.delete(event.pointerId);
    eye.spread = 0;
    if (eye.start && eye.drawing && item().draft.box) $("viewhint").textContent = `${words.box_kept} ${words.box_start}`;
    eye.start = null;
  });
  canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoomBy(event.deltaY < 0 ? 1.2 : 1 / 1.2, ...spot(event)); }, { passive: false });

  // Leases are lengthened while somebody sits here; what went to others meanwhile is said and taken away.

  let lastInput = Date.now();
  async function renew() {
    if (document.hidden || !desk.items.length || Date.now() - lastInput > 900000) return;
    const answer = await call("/api/renew", { ids: desk.items.map((it) => it.id) });
    if (answer.status === 401) { trouble = "signed_out"; notices(); }
    if (answer.status !== 200) return;
    if (trouble === "unreachable") flush();
    const held = new Set(answer.data.held), first = item();
    desk.items = desk.items.filter((it) => held.has(it.id) || !answer.data.asked.includes(it.id));
    if (first && item() !== first) {
      desk.notice = say("now_lost", { title: first.title });
      if (dialog.open) dialog.close();
      render(true);
      notices();
    }
    fill();
  }
  setInterval(renew, Math.min(60, boot.seconds / 3) * 1000);
  document.addEventListener("visibilitychange", () => { clock(); if (!document.hidden) { flush(); renew(); } });
  fill(boot.first);
})();
