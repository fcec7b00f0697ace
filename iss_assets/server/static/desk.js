"use strict";
// The review desk: player, timeline, overlay, keys, decisions. The page works on what the server rendered; after a
// decision it fetches itself again and exchanges the panel, so that there is one template and no second state.

const $ = (id) => document.getElementById(id);
const player = $("player");
const isTyping = (at) => at.closest("input:not([type=checkbox]), select, textarea, dialog[open]");

// ---- decisions

async function decide(decision) {
  const answer = await fetch("/decisions", {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(decision),
  }).catch(() => null);
  if (answer && answer.ok) return true;
  let problem = "The server does not answer. Nothing was recorded.";
  if (answer) {
    const text = await answer.text();
    try { problem = JSON.parse(text).problem; } catch { problem = text.trim(); }
  }
  $("trouble").textContent = problem;
  return false;
}

async function renewed() {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (!answer.ok) { location.reload(); return null; }
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

// the reviewer's own day: the server does not know where the reviewer is
function showToday() {
  const today = new Date();
  $("contacted-on").value = [today.getFullYear(), today.getMonth() + 1, today.getDate()].map((n) => String(n).padStart(2, "0")).join("-");
}

let busy = false;
async function decideAndShow(decision) {
  if (busy) return false;
  busy = true;
  try {
    if (!(await decide(decision))) return false;
    if (!player) { location.reload(); return true; }
    const page = await renewed();
    if (!page) return true;
    const active = document.activeElement;
    const held = active && $("panel").contains(active) ? [active.dataset.decision, active.dataset.flag, active.id] : null;
    for (const part of ["panel", "previous-video", "next-video"]) {
      const before = $(part), after = page.getElementById(part);
      if (before && after) before.replaceWith(document.adoptNode(after));
      else if (before) before.remove();
    }
    showToday();
    document.querySelector(".toolbar .lead").replaceWith(document.adoptNode(page.querySelector(".toolbar .lead")));
    if (held) {
      const same = held[2] ? $(held[2]) : [...$("panel").querySelectorAll("button")].find(
        (b) => b.dataset.decision === held[0] && b.dataset.flag === held[1]);
      if (same) same.focus();
    }
    drawFlags();
    return true;
  } finally { busy = false; }
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.select) { select(button.dataset.select, true); return; }
  const decision = button.dataset.decision;
  if (!decision) return;
  const about = { decision };
  if (player) about.video_id = player.dataset.video;
  if (button.dataset.patient) about.patient_id = button.dataset.patient;
  if (button.dataset.flag) about.flag = button.dataset.flag;
  if ("assignee" in button.dataset) about.assignee = button.dataset.assignee;
  if (about.flag) { select(about.flag, false); await decideFlag(decision); } else await decideAndShow(about);
});

document.addEventListener("submit", async (event) => {
  if (!event.target.dataset.form) return;
  event.preventDefault();
  const about = { ...Object.fromEntries(new FormData(event.target)), decision: event.submitter.value };
  about.video_id = player.dataset.video;
  if (await decideAndShow(about)) $("status").textContent = "Recorded.";
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
  if (event.key === "n" || event.key === "p") {
    const link = $(event.key === "n" ? "next-video" : "previous-video");
    if (link) { event.preventDefault(); link.click(); } else if ($("status")) $("status").textContent = "No other video is waiting.";
  }
});

// ---- the flag that keys are about

let current = null;
let data = { duration: 0, flags: {}, face: [], several: [], light: [], boxes: [] };
const flagItems = () => [...document.querySelectorAll("li[data-flag]")];
const itemOf = (flag) => flagItems().find((item) => item.dataset.flag === flag);

function select(flag, jump) {
  current = flag;
  for (const item of flagItems()) item.toggleAttribute("data-current", item.dataset.flag === flag);
  for (const lane of document.querySelectorAll("[data-lane]")) lane.toggleAttribute("data-current", lane.dataset.lane === flag);
  const item = itemOf(flag);
  if (item) item.scrollIntoView({ block: "nearest" });
  if (jump) { seek(firstMoment(flag)); play(); }
}

const firstMoment = (flag) => (data.flags[flag] && data.flags[flag].length ? data.flags[flag][0][0] : 0);

function step(by) {
  const names = flagItems().map((item) => item.dataset.flag);
  if (!names.length) return;
  const place = names.indexOf(current);
  select(names[(place + by + names.length) % names.length], true);
}

async function decideFlag(decision) {
  if (!current) return;
  const flag = current;
  if (!(await decideAndShow({ decision, flag, video_id: player.dataset.video }))) return;
  const words = { confirm: "accepted", reject: "rejected", clear: "open again" }[decision];
  const open = flagItems().filter((item) => item.dataset.open === "1").map((item) => item.dataset.flag);
  const said = `${flag.replaceAll("_", " ")}: ${words}.`;
  if (decision !== "clear" && open.length) {
    const names = flagItems().map((item) => item.dataset.flag);
    const after = open.find((name) => names.indexOf(name) > names.indexOf(flag)) || open[0];
    select(after, true);
    $("status").textContent = said;
  } else {
    select(flag, false);
    const more = $("next-video") ? "n: next video." : "No other video is waiting.";
    $("status").textContent = open.length ? said : `${said} Every flag of this video is reviewed. ${more}`;
  }
}

// ---- the player: a preview begins at a second of the video and can be sought once it is there

let base = 0;
const now = () => base + (player.currentTime || 0);
const clampTime = (t) => Math.min(Math.max(t, 0), Math.max((data.duration || Number(player.dataset.duration)) - 0.2, 0));

function load(t, local = 0) {
  base = Math.round(t * 10) / 10;
  if (local) player.addEventListener("loadedmetadata", () => { player.currentTime = local; }, { once: true });
  $("player-problem").textContent = "";
  player.src = `/media/${encodeURIComponent(player.dataset.video)}?from=${base}`;
}

const isIn = (ranges, t) => [...Array(ranges.length).keys()].some((i) => t >= ranges.start(i) && t <= ranges.end(i));

function seek(t) {
  t = clampTime(t);
  const local = t - base, playing = !player.paused;
  if (player.src && local >= 0 && isIn(player.seekable, local)) { player.currentTime = local; return; }
  // what was streamed while it was made cannot be sought; the same preview, once it is finished, can
  const there = player.buffered.length ? player.buffered.end(player.buffered.length - 1) : 0;
  if (local >= 0 && there > 0 && base + there >= data.duration - 0.6) load(base, local); else load(t);
  if (playing) play();
}

async function play() {
  try { await player.play(); } catch (error) {
    if (error.name !== "NotAllowedError") return;
    player.muted = true;  // before the first click or key browsers play without sound only
    $("muted").checked = true;
    try { await player.play(); } catch { /* the person presses play */ }
  }
}

const toggle = () => (player.paused ? (player.ended ? (seek(0), play()) : play()) : player.pause());

const clockText = (t) => `${Math.floor(t / 60)}:${(t % 60).toFixed(1).padStart(4, "0")}`;

// ---- timeline

const SVG = "http://www.w3.org/2000/svg";
const WIDE = 1000;

function lane(name, key, kind) {
  const row = document.createElement("div");
  row.className = "lane";
  if (key) row.dataset.lane = key;
  const label = document.createElement("span");
  label.className = "lane-name";
  label.textContent = name;
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${WIDE} 20`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  svg.classList.add("strip", kind);
  row.append(label, svg);
  $("lanes").append(row);
  return svg;
}

function fill(svg, spans, cls) {
  for (const [begin, end] of spans) {
    const rect = document.createElementNS(SVG, "rect");
    rect.setAttribute("x", (begin / data.duration) * WIDE);
    rect.setAttribute("width", Math.max(((end - begin) / data.duration) * WIDE, 2));
    rect.setAttribute("y", 3);
    rect.setAttribute("height", 14);
    if (cls) rect.classList.add(cls);
    svg.append(rect);
  }
}

function drawFlags() {
  for (const old of document.querySelectorAll("[data-lane]")) old.remove();
  const first = $("lanes").querySelector(".lane");
  for (const item of flagItems()) {
    const flag = item.dataset.flag;
    const state = item.classList.contains("reject") ? "rejected" : item.classList.contains("confirm") ? "confirmed" : "open-flag";
    const svg = lane(flag.replaceAll("_", " "), flag, "strip-flag");
    const spans = data.flags[flag] || [];
    fill(svg, spans.length ? spans : [[0, data.duration]], state);
    if (!spans.length) svg.classList.add("whole");
    if (first) $("lanes").insertBefore(svg.parentNode, first);
  }
  if (current) select(current, false);
}

function drawLight(svg) {
  const points = data.light.map(([t, value]) => `${((t / data.duration) * WIDE).toFixed(1)},${(19 - 18 * value).toFixed(1)}`);
  const line = document.createElementNS(SVG, "polyline");
  line.setAttribute("points", points.join(" "));
  line.setAttribute("vector-effect", "non-scaling-stroke");
  svg.append(line);
}

function describe(speech) {
  const total = (spans) => spans.reduce((sum, [begin, end]) => sum + end - begin, 0);
  const share = (spans) => `${Math.round((100 * total(spans)) / (data.duration || 1))} percent of the video`;
  const flags = Object.entries(data.flags).map(([flag, spans]) => `${flag.replaceAll("_", " ")}: ${share(spans)}`);
  $("lanes-text").textContent = [...flags, `face found: ${share(data.face)}`, `several faces: ${share(data.several)}`,
    speech ? `speech: ${share(speech)}` : ""].filter(Boolean).join("; ");
}

function showTime() {
  const t = Math.min(now(), data.duration || now());
  $("playhead").style.left = `${data.duration ? (100 * t) / data.duration : 0}%`;
  $("clock").textContent = clockText(t) + (data.duration ? ` / ${clockText(data.duration)}` : "");
  $("track").setAttribute("aria-valuenow", t.toFixed(1));
  $("track").setAttribute("aria-valuetext", `${t.toFixed(1)} seconds`);
}

// ---- overlay

const meshes = new Map();
const WINDOW_S = 10, MESH_FLOATS = 937;

async function fetchMeshes(number) {
  if (meshes.has(number)) return;
  meshes.set(number, []);
  const answer = await fetch(`/review/${encodeURIComponent(player.dataset.video)}/meshes?from=${number * WINDOW_S}`).catch(() => null);
  if (!answer || !answer.ok) { meshes.delete(number); return; }
  const all = new Float32Array(await answer.arrayBuffer());
  const rows = [];
  for (let at = 0; at + MESH_FLOATS <= all.length; at += MESH_FLOATS) rows.push(all.subarray(at, at + MESH_FLOATS));
  meshes.set(number, rows);
}

function at(rows, t) {
  let low = 0, high = rows.length;
  while (low < high) { const middle = (low + high) >> 1; if (rows[middle][0] <= t + 0.001) low = middle + 1; else high = middle; }
  const row = rows[low - 1];
  return row && t - row[0] < 0.25 ? row : null;
}

function drawOverlay() {
  const canvas = $("overlay"), pen = canvas.getContext("2d");
  const scale = devicePixelRatio || 1, wide = canvas.clientWidth, tall = canvas.clientHeight;
  if (canvas.width !== Math.round(wide * scale)) canvas.width = Math.round(wide * scale);
  if (canvas.height !== Math.round(tall * scale)) canvas.height = Math.round(tall * scale);
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, wide, tall);
  if (!player.videoWidth) return;
  const fit = Math.min(wide / player.videoWidth, tall / player.videoHeight);
  const w = player.videoWidth * fit, h = player.videoHeight * fit, left = (wide - w) / 2, top = (tall - h) / 2;
  const t = now();
  if ($("show-box").checked) {
    const box = at(data.boxes, t);
    if (box) {
      const shape = [left + box[1] * w, top + box[2] * h, (box[3] - box[1]) * w, (box[4] - box[2]) * h];
      pen.lineWidth = 4; pen.strokeStyle = "#000a"; pen.strokeRect(...shape);
      pen.lineWidth = 2; pen.strokeStyle = "#ffd34d"; pen.strokeRect(...shape);
    }
  }
  if ($("show-mesh").checked) {
    const number = Math.floor(t / WINDOW_S);
    fetchMeshes(number);
    if (t % WINDOW_S > WINDOW_S - 3) fetchMeshes(number + 1);
    const mesh = at(meshes.get(number) || [], t);
    if (mesh) {
      pen.fillStyle = "#7df9ff";
      for (let i = 1; i < MESH_FLOATS; i += 2) pen.fillRect(left + mesh[i] * w - 0.7, top + mesh[i + 1] * h - 0.7, 1.4, 1.4);
    }
  }
}

// ---- keys

const KEYS = {
  " ": toggle,
  j: () => step(1), k: () => step(-1),
  a: () => decideFlag("confirm"), r: () => decideFlag("reject"), u: () => decideFlag("clear"),
  o: () => { const on = !($("show-box").checked || $("show-mesh").checked); $("show-box").checked = $("show-mesh").checked = on; },
  "?": () => $("keys").showModal(),
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
  if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
    event.preventDefault();
    seek(now() + (event.key === "ArrowLeft" ? -1 : 1) * (event.shiftKey ? 5 : 1));
    return;
  }
  if (event.key === " " && event.target.closest("button, a, summary, input")) return;  // they have a use for it
  const action = KEYS[event.key];
  if (!action || (event.repeat && event.key !== " ")) return;
  event.preventDefault();
  action();
}

function seekTo(event) {
  const box = $("track").getBoundingClientRect();
  seek(((event.clientX - box.left) / box.width) * data.duration);
}

async function start() {
  const answer = await fetch(`/review/${encodeURIComponent(player.dataset.video)}/timeline`).catch(() => null);
  if (answer && answer.ok) data = await answer.json();
  $("track").setAttribute("aria-valuemax", data.duration.toFixed(1));
  const items = flagItems();
  const first = items.find((item) => item.dataset.open === "1") || items[0];
  if (first) current = first.dataset.flag;
  const begin = clampTime(current ? firstMoment(current) : 0);
  load(begin);
  play();
  drawFlags();
  fill(lane("face found", "", "strip-face"), data.face);
  fill(lane("several faces", "", "strip-several"), data.several);
  drawLight(lane("light", "", "strip-light"));
  const speechLane = lane("speech", "", "strip-speech");
  describe(null);
  const spoken = await fetch(`/review/${encodeURIComponent(player.dataset.video)}/speech`).catch(() => null);
  if (spoken && spoken.ok) { const spans = await spoken.json(); fill(speechLane, spans); describe(spans); }
}

if (player) {
  showToday();
  document.addEventListener("keydown", onKey);
  $("play").addEventListener("click", toggle);
  $("show-keys").addEventListener("click", () => $("keys").showModal());
  $("muted").addEventListener("change", () => { player.muted = $("muted").checked; });
  player.addEventListener("click", toggle);
  player.addEventListener("play", () => { $("play").textContent = "Pause"; });
  player.addEventListener("pause", () => { $("play").textContent = "Play"; });
  player.addEventListener("error", async () => {
    const answer = await fetch(player.src, { headers: { Range: "bytes=0-0" } }).catch(() => null);
    $("player-problem").textContent = answer && answer.status >= 400 ? (await answer.text()).trim() : "The video cannot be played.";
  });
  let dragging = false;
  $("track").addEventListener("pointerdown", (event) => { dragging = true; $("track").setPointerCapture(event.pointerId); seekTo(event); });
  $("track").addEventListener("pointermove", (event) => { if (dragging && event.buttons) seekTo(event); });
  $("track").addEventListener("pointerup", () => { dragging = false; });
  const tick = () => { showTime(); drawOverlay(); requestAnimationFrame(tick); };
  tick();
  start();
}
