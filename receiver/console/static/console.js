// What the pages do better with a script: local times, copying, and keys. Everything works without it.
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
for (const button of document.querySelectorAll("button[data-copy]")) button.hidden = false;
localTimes(document);

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
