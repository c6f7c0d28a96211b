// What the pages do better with a script: local times, copying, keys, and what changes as it does. All works without it.
"use strict";



function pad(number) {
  return String(number).padStart(2, "0");
}

// Server text is UTC; here it becomes the reader's time, and the title keeps both.
function localTimes(root) {

  for (const time of root.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    const clock = `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
    time.textContent = `${pad(at.getMonth() + 1)}-${pad(at.getDate())} ${clock}`;
    time.title = `${time.dateTime} = ${at.toLocaleString()} (${document.body.dataset.local})`;
  }
}

async function copy(button) {
  const text = button.dataset.copy;
  if (navigator.clipboard && window.isSecureContext) {
    await navigator.clipboard.writeText(text);
  } else {
    // Plain HTTP has no clipboard for scripts but this one.
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "unseen";
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    button.focus();
  }
  const before = button.title;
  button.classList.add("copied");
  button.title = document.body.dataset.copied;
  button.setAttribute("aria-label", document.body.dataset.copied);
  setTimeout(() => {
    button.classList.remove("copied");
    button.title = before;
    button.setAttribute("aria-label", before);
  }, 2000);
}

function rows() {
  return [...document.querySelectorAll("tbody tr[id]")];
}

function move(by) {
  const all = rows();
  if (!all.length) return;
  const now = all.findIndex((row) => row.classList.contains("at"));
  const next = Math.max(0, Math.min(all.length - 1, now + by));
  if (now >= 0) all[now].classList.remove("at");
  all[next].classList.add("at");
  all[next].scrollIntoView({ block: "nearest" });
}

let going = false;

function press(event) {
  const field = event.target.closest("input, select, textarea, [contenteditable]");
  if (field || event.ctrlKey || event.metaKey || event.altKey || document.documentElement.dataset.keys === "off") return;
  if (going) {
    going = false;
    const link = document.querySelector(`.nav a[data-key="${CSS.escape(event.key)}"]`);
    if (link) link.click();
    return;
  }
  const search = document.querySelector("input[type=search]") || document.querySelector(".filters input");
  const link = document.querySelector("tr.at td.main a");
  const keys = {
    "/": () => search && (search.focus(), event.preventDefault()),
    j: () => move(1),
    k: () => move(-1),
    o: () => link && link.click(),
    g: () => { going = true; setTimeout(() => { going = false; }, 1500); },
  };
  if (Object.hasOwn(keys, event.key)) keys[event.key]();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-copy]");
  if (button) copy(button);
});
document.addEventListener("keydown", press);
// Pressed twice is sent once.
document.addEventListener("submit", (event) => {
  if (event.target.method !== "post") return;
  if (event.target.dataset.sent) event.preventDefault();
  event.target.dataset.sent = "yes";
});
window.addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
});
// ---------------------------------------------------------------- what changes, as it does

const main = document.getElementById("main");
const lamp = document.getElementById("lamp");
const news = document.getElementById("news");
const listens = main.dataset.live;
// Only pages of this server are read, and nothing in them is run.
const policy = window.trustedTypes ? trustedTypes.createPolicy("receiver", { createHTML: (text) => text }) : null;
const REST = 2000; // milliseconds between two looks at the page
const LONGEST = 60000;

const others = window.BroadcastChannel ? new BroadcastChannel("receiver") : null;

let stream = null;
let last = main.dataset.place; // what the page was made from: nothing that changed since is missed
let wait = 1000;
let due = null;

function show(state, word) {
  lamp.hidden = false;
  lamp.className = `lamp ${state}`;
  const now = new Date();
  lamp.textContent = state === "lost" ? `✕ ${word} ${pad(now.getHours())}:${pad(now.getMinutes())}` : `${state === "alive" ? "●" : "○"} ${word}`;
}

function dress(root) {
  localTimes(root);
  for (const button of root.querySelectorAll("button[data-copy]")) button.hidden = false;
}

// Nothing moves under a reader's hands: while text is marked, or a field has the focus.
function isBusy() {
  const marked = document.getSelection();
  const field = document.activeElement;
  return (marked && !marked.isCollapsed) || (field && main.contains(field) && field.matches("input, select, textarea"));
}

function renew(before, after) {
  if (!after || before.isEqualNode(after)) return;
  const open = [...before.querySelectorAll("details")].map((each) => each.open);
  [...after.querySelectorAll("details")].forEach((each, n) => { if (n < open.length) each.open = open[n]; });
  if (before.isEqualNode(after)) return;
  const focused = before.contains(document.activeElement) ? document.activeElement : null;
  const place = focused ? [...before.querySelectorAll("a, button, summary")].indexOf(focused) : -1;
  if (before.classList.contains("at")) after.classList.add("at");
  before.replaceWith(after);
  if (place >= 0) [...after.querySelectorAll("a, button, summary")][place]?.focus({ preventScroll: true });
}

function apply(text) {
  const fresh = new DOMParser().parseFromString(policy ? policy.createHTML(text) : text, "text/html");
  dress(fresh);
  for (const part of main.querySelectorAll("[data-part]")) renew(part, fresh.getElementById(part.id));
  const known = new Set();
  for (const row of rows()) {
    if (row.closest("[data-part]")) continue;
    known.add(row.id);
    const after = fresh.getElementById(row.id);
    row.classList.toggle("gone", !after);
    renew(row, after);
  }
  const badge = document.querySelector(".nav a[data-key=l]");
  renew(badge, fresh.querySelector(".nav a[data-key=l]"));
  const added = [...fresh.querySelectorAll("#main tbody tr[id]")].filter((row) => !row.closest("[data-part]") && !known.has(row.id));
  const isFirst = !/[?&](after|before|cursor)=/.test(location.search);
  news.hidden = !(added.length && isFirst);
  if (!news.hidden) {
    const link = document.createElement("a");
    link.href = location.href;
    link.textContent = `▴ ${added.length} ${document.body.dataset.new}`;
    news.replaceChildren(link);
  }
}

async function look() {
  due = null;
  if (document.hidden) return;
  if (isBusy()) { later(); return; }
  const answer = await fetch(location.href, { headers: { accept: "text/html" }, redirect: "manual" });
  if (answer.ok) apply(await answer.text());
  else if (answer.type === "opaqueredirect") location.reload(); // signed out meanwhile
}

function later() {
  if (due === null) due = setTimeout(() => look().catch(() => {}), REST);
}

function listen() {
  if (!listens || stream || document.hidden) return;
  const place = last ? `&last_event_id=${encodeURIComponent(last)}` : "";
  if (others) others.postMessage("mine");
  stream = new EventSource(`/api/stream?${listens}${place}`);
  const heard = (event) => { last = event.lastEventId || last; later(); };
  for (const kind of ["task", "action", "delivery", "alert", "replay", "reset"]) stream.addEventListener(kind, heard);
  stream.onopen = () => { wait = 1000; show("alive", document.body.dataset.alive); };
  stream.onerror = () => {
    show("lost", document.body.dataset.lost);
    if (stream && stream.readyState === EventSource.CLOSED) {
      stream = null;
      setTimeout(listen, wait);
      wait = Math.min(LONGEST, wait * 2);
    }
  };
}

// A browser has six connections for all pages of a server: the one that was looked at last holds a stream, no other.
function pause() {
  if (!stream) return;
  stream.close();
  stream = null;
  show("paused", document.body.dataset.paused);
}

function resume() {
  if (!listens || stream || document.hidden) return;
  listen();
  later();
}

if (others) others.onmessage = pause;
document.addEventListener("visibilitychange", () => (document.hidden ? pause() : resume()));
window.addEventListener("focus", resume);
document.addEventListener("pointerdown", resume);
window.addEventListener("pagehide", pause);
window.addEventListener("pageshow", (event) => { if (event.persisted) resume(); });

dress(document);
if (listens && window.EventSource && lamp) listen();

// The address says what was just done; once it was read it need not be said again after a reload.
const here = new URL(location.href);
if (here.searchParams.has("done")) {
  here.searchParams.delete("done");
  history.replaceState(null, "", here);
}
const problem = document.querySelector(".notice[role=alert]");
if (problem) {
  problem.tabIndex = -1;
  problem.focus();
}
